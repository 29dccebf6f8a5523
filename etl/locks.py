"""How a write waits behind another session's lock: in steps, with signs of life in between, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import structlog

from etl.errors import Blocked
from etl.stop import Stop, check
from shared.errors import TableLocked

T = TypeVar("T")
log = structlog.get_logger()

LONGEST = 300.0
"""Seconds after which a write is given up; an index over ten million records is made in less."""
HELD = "another session holds a lock on what is to be written, as one that makes an index or alters a table does"


def behind_locks(write: Callable[[], T], renew: Callable[[], None], stop: Stop) -> T:
    """Do a write, which undoes itself when it meets a lock for too long, again and again until it is done; `renew` keeps the lease.

    Raises Blocked when the lock stays, and Stopped.
    """
    until, told = time.monotonic() + LONGEST, False
    while True:
        try:
            return write()
        except TableLocked as locked:
            check(stop)
            if time.monotonic() > until:
                step = "what was committed is safe, run the same command again to go on"
                raise Blocked(f"{HELD}: it was not gone after {LONGEST:g} s: {step}") from locked
            if not told:
                log.warning("lock awaited", reason=f"{HELD}: this goes on once it is gone, within {LONGEST:g} s")
                told = True
            with suppress(TableLocked):  # the lease's own row may be what is locked: the write, tried again, says whether it still is ours
                renew()
