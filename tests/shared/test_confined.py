"""Work in a child: its value comes back, and every way in which it can go wrong is told and leaves no process behind."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from shared.confined import Bounds, Failed, Overrun, confined

ROOM = Bounds(cpu=10, seconds=10, memory=64 << 20)


@pytest.fixture(autouse=True)
def _no_child_is_left(monkeypatch: pytest.MonkeyPatch) -> Any:
    started: list[int] = []
    fork = os.fork

    def noted() -> int:
        pid = fork()
        started.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", noted)
    yield
    assert started
    for pid in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@pytest.mark.parametrize("value", [None, 1, ["a\ud800b", {"é": 1.5}], "x" * 3_000_000])
def test_the_value_of_the_work_comes_back(value: Any) -> None:
    assert confined(lambda: value, ROOM) == value


def test_what_the_work_does_stays_in_the_child() -> None:
    seen: list[int] = []
    confined(lambda: seen.append(1), ROOM)
    assert seen == []


def test_an_exception_comes_back_by_name() -> None:
    with pytest.raises(Failed, match="ZeroDivisionError"):
        confined(lambda: 1 / 0, ROOM)


def spin() -> None:
    while True:
        pass


def die(number: int) -> Callable[[], None]:
    def work() -> None:
        faulthandler.disable()  # a traceback that is meant is none to read
        os.kill(os.getpid(), number)

    return work


@pytest.mark.parametrize(
    ("work", "bounds", "told"),
    [
        (spin, Bounds(cpu=1, seconds=30, memory=64 << 20), "1 s of processor time"),
        (lambda: time.sleep(30), Bounds(cpu=1, seconds=0.1, memory=64 << 20), "0.1 s"),
        (die(signal.SIGSEGV), ROOM, "its process (signal 11)"),
        (lambda: os._exit(3), ROOM, "64 MiB of memory"),
    ],
)
def test_a_bound_that_is_passed_is_named(work: Callable[[], Any], bounds: Bounds, told: str) -> None:
    with pytest.raises(Overrun) as passed:
        confined(work, bounds)
    assert str(passed.value) == told


def test_memory_is_bound_where_the_system_tells_how_much_is_used_already() -> None:
    told = Path("/proc/self/statm").exists()
    with pytest.raises(Overrun, match="64 MiB of memory") if told else nullcontext():
        assert confined(lambda: len(bytearray(1 << 28)), ROOM) == 1 << 28


def test_memory_is_not_bound_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.confined.Path", lambda _: Path("/nowhere"))
    assert confined(lambda: len(bytearray(1 << 28)), ROOM) == 1 << 28


def test_a_signal_that_raises_here_ends_the_child_too() -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            confined(lambda: time.sleep(30), ROOM)
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_does_not_end_the_child_by_itself(number: int) -> None:
    def work() -> str:
        os.kill(os.getpid(), number)
        return "done"

    assert confined(work, ROOM) == "done"
