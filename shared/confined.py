"""Work on what strangers sent, in a child process: whatever it costs, it ends within bounds of processor time, memory and wall time."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a child may use: whole seconds of processor time, seconds on the clock, bytes beside what this process has already."""

    cpu: int
    seconds: float
    memory: int


class Overrun(Exception):
    """The child passed one of its bounds; the text names it."""


class Failed(Exception):
    """The work raised; the text is the name of the exception."""


def confined(work: Callable[[], Any], bounds: Bounds) -> Any:
    """Do a piece of work in a forked child and return its value, which JSON must hold. Raises Overrun and Failed.

    The child shares the memory of this process until it writes, so that it starts within milliseconds.
    """
    reading, writing = os.pipe()
    pid = forked()
    if pid == 0:
        serve(work, bounds, writing)
    try:
        os.close(writing)
        answer = read_all(reading, time.monotonic() + bounds.seconds)
    finally:  # race: a signal's handler may raise anywhere in here
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    memory = f"{bounds.memory >> 20} MiB of memory"
    if answer is None:
        raise Overrun(f"{bounds.seconds:g} s")
    if not answer:
        died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        raise Overrun({signal.SIGXCPU: f"{bounds.cpu} s of processor time", 0: memory}.get(died, f"its process (signal {died})"))
    value, failure = json.loads(answer.decode("utf-8", "surrogatepass"))
    if failure == "MemoryError":
        raise Overrun(memory)
    if failure:
        raise Failed(failure)
    return value


def forked() -> int:
    """Fork, with signals held back until the child no longer runs this process's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of other threads: the child uses nothing that they may hold
            pid = os.fork()
        if pid == 0:
            for number in SIGNALS:  # ours to end: a terminal and a platform signal the whole group
                signal.signal(number, signal.SIG_IGN)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def serve(work: Callable[[], Any], bounds: Bounds, writing: int) -> NoReturn:
    """The child: do the work, tell its value or the name of what it raised, and vanish without touching what it shares."""
    try:
        bound(resource.RLIMIT_CORE, 0)
        bound(resource.RLIMIT_CPU, bounds.cpu)
        with suppress(OSError):  # where there is no /proc, there is no bound on memory
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            bound(resource.RLIMIT_AS, used + bounds.memory)
        try:
            told = json.dumps([work(), ""], ensure_ascii=False)
        except Exception as error:
            told = json.dumps([None, type(error).__name__])
        with open(writing, "wb", closefd=False) as pipe:
            pipe.write(told.encode("utf-8", "surrogatepass"))
    except BaseException:
        os._exit(1)
    os._exit(0)


def bound(kind: int, value: int) -> None:
    """Lower a limit of this process."""
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def read_all(reading: int, until: float) -> bytes | None:
    """Read to the end of a pipe; None when that takes longer than `until`."""
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0:
        if not select.select([reading], [], [], left)[0]:
            break
        part = os.read(reading, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None
