"""Stopping on request: the first SIGTERM or SIGINT lets the batch in hand finish, a second SIGINT ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from etl.errors import Stopped


FINISHING = b"\nkasparro-etl: finishing the batch in hand; Ctrl-C again ends at once, nothing is lost either way\n"


@dataclass(slots=True)
class Stop:
    """Whether the run was asked to stop, and by which signal; set from a signal handler."""

    asked: threading.Event = field(default_factory=threading.Event)
    signal: int | None = None


def check(stop: Stop) -> None:
    """Raise Stopped when a stop was asked for."""
    if stop.asked.is_set():
        raise Stopped("stopped on request: run the same command again to go on")


def wait(stop: Stop, seconds: float) -> None:
    """Sleep, but wake and raise Stopped when a stop is asked for."""
    stop.asked.wait(seconds)
    check(stop)


@contextmanager
def on_signals() -> Iterator[Stop]:
    """Listen to SIGTERM and SIGINT for the length of a block."""
    stop = Stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            os.write(2, FINISHING)  # not through a buffer: the signal may have come in the middle of a write to it
        stop.signal = number
        stop.asked.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
