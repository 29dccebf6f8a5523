"""Stopping on request: which signal, which exit code, at whatever instant it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from etl.cli import exit_code
from etl.errors import Stopped
from etl.stop import check, listening, on_signals


def ask(number: int) -> None:
    """Send this process a signal and be busy for longer than it may take to stop."""
    os.kill(os.getpid(), number)
    time.sleep(20)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_is_cut_short_ends_as_stopped_by_its_signal(number: int, code: int) -> None:
    with pytest.raises(Stopped) as stopped, on_signals(grace=0.05):
        ask(number)
    assert exit_code(stopped.value) == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_wait_for_an_upstream_ends_at_once(number: int, code: int) -> None:
    with pytest.raises(Stopped) as stopped, on_signals() as stop, listening(stop):
        ask(number)
    assert exit_code(stopped.value) == code


def test_between_two_batches_a_request_is_noticed() -> None:
    with on_signals() as stop:
        check(stop)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped) as stopped:
            check(stop)
    assert stopped.value.signal == signal.SIGTERM


def test_who_presses_again_as_soon_as_the_words_come_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def press_again(_file: int, words: bytes) -> int:
        signal.raise_signal(signal.SIGINT)
        return len(words)

    monkeypatch.setattr("etl.stop.os.write", press_again)
    with pytest.raises(KeyboardInterrupt), on_signals():
        signal.raise_signal(signal.SIGINT)


def test_a_stop_is_heard_where_nobody_can_be_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_file: int, _words: bytes) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("etl.stop.os.write", gone)
    with pytest.raises(Stopped), on_signals() as stop, listening(stop):
        signal.raise_signal(signal.SIGINT)


EACH_LINE = """
import signal, sys
from etl.errors import Stopped
from etl.stop import check, on_signals, wait

def signal_at(number):
    def trace(frame, event, arg):
        nonlocal number
        number -= 1
        if number == 0:
            sys.settrace(None)
            signal.raise_signal(signal.SIGTERM)
        return trace
    return trace

ended = 0
while True:
    try:
        with on_signals() as stop:
            sys.settrace(signal_at(ended + 1))
            wait(stop, 0.001)
            sys.settrace(None)
            check(stop)
        break
    except Stopped:
        ended += 1
print(ended)
"""


def test_a_signal_at_any_line_of_a_wait_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", EACH_LINE], capture_output=True, text=True, timeout=30, check=True)
    assert int(done.stdout) > 15
