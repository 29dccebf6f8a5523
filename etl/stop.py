"""Stopping on request: the first signal lets the batch in hand finish, for at most some seconds; a second SIGINT ends at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from etl.errors import CutShort, Stopped

GRACE = 8.0
"""Seconds the batch in hand may take after a request to stop; platforms kill after ten."""

AGAIN = 0.6
"""Seconds between two cuts: the first undoes the batch, a later one ends the wait for a database that does not answer."""

FINISHING = b"\nkasparro-etl: finishing the batch in hand; Ctrl-C again ends at once, nothing is lost either way\n"
REASON = "stopped on request: run the same command again to go on"
LATE = "stopped at its deadline: what was committed stays, run the same command again to go on"


@dataclass(slots=True)
class Stop:
    """Whether the run was asked to stop, and by which signal, or by its deadline (`late`); set from a signal handler.

    `listening`: nothing is in hand, so the handler may end the wait for an upstream by raising Stopped.
    """

    # A plain word, not an Event: one that is set by a handler while its own wait holds its lock never returns.
    asked: bool = False
    signal: int | None = None
    listening: bool = False
    late: bool = False

    def error(self) -> Stopped:
        """What ends the run."""
        return Stopped(LATE, None) if self.late and self.signal is None else Stopped(REASON, self.signal or signal.SIGINT)


def check(stop: Stop) -> None:
    """Raise Stopped when a stop was asked for."""
    if stop.asked:
        raise stop.error()


def wait(stop: Stop, seconds: float) -> None:
    """Sleep, but wake and raise Stopped when a stop is asked for."""
    with listening(stop):
        time.sleep(seconds)


@contextmanager
def listening(stop: Stop) -> Iterator[None]:
    """For the length of a wait, such as an exchange with an upstream, let a signal end it. Raises Stopped."""
    before, stop.listening = stop.listening, True
    try:
        check(stop)  # after the handler may raise: a signal just before it would be heard by neither
        yield
    finally:
        stop.listening = before


@contextmanager
def on_signals(grace: float = GRACE, deadline: float | None = None) -> Iterator[Stop]:
    """Listen to SIGTERM and SIGINT for the length of a block, and stop it the same way `deadline` seconds after its start.

    A block that was cut short ends in Stopped.
    """
    stop = Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = number
        stop.asked = True
        signal.setitimer(signal.ITIMER_REAL, grace, AGAIN)
        if number == signal.SIGINT:  # told last: who reads it may press again in the same instant
            with suppress(OSError):
                os.write(2, FINISHING)  # not through a buffer: the signal may have come in the middle of a write to it
        if stop.listening:
            raise stop.error()

    def ring(_number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise CutShort(str(stop.error()))
        stop.late = True
        stop.asked = True
        signal.setitimer(signal.ITIMER_REAL, grace, AGAIN)
        if stop.listening:
            raise stop.error()

    handlers = {signal.SIGTERM: ask, signal.SIGINT: ask, signal.SIGALRM: ring}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.setitimer(signal.ITIMER_REAL, deadline or 0)
    try:
        yield stop
    except CutShort:
        raise stop.error() from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
