"""How a run waits for an upstream: within the rate budget, the lease kept, and so that a signal can end it."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import structlog

from etl.lease import Run, renew_lease
from etl.patience import Waits
from etl.rate_limit import take_call
from etl.source import Fetch, Response
from etl.stop import listening, wait
from etl.work import Work

log = structlog.get_logger()

HEARTBEAT = 15.0
"""Seconds between two signs of life; a quarter of the lease."""
LONG = 2.0
"""Seconds of waiting for the rate limit that are worth a line."""


def fetch_of(work: Work, run: Run) -> Fetch:
    """Make the fetch of one run. The network's libraries are imported by its first request: a run that only reads files has none."""
    waits, made = waits_of(work, run), list[Fetch]()

    def fetch(url: str, **asked: Any) -> Response:
        if not made:
            made.append(import_module("etl.fetch").fetcher(waits, work.patience))
        return made[0](url, **asked)

    return fetch


def waits_of(work: Work, run: Run) -> Waits:
    """The waits of one run."""
    limit = work.source.rate_limit(work.settings)
    beat = heartbeat(work, run)

    def throttle() -> float:
        seconds = take_call(work.link.conn, work.source.name, limit) if limit else 0.0
        if seconds > LONG:
            log.info("request delayed", source=work.source.name, reason="waiting for the rate limit", delay_seconds=round(seconds, 1))
        return seconds

    def pause(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            wait(work.stop, min(left, HEARTBEAT))
            beat()

    return Waits(pause, throttle, beat, lambda: listening(work.stop), frozenset(work.settings.etl_allowed_hosts or ()))


def heartbeat(work: Work, run: Run) -> Callable[[], None]:
    """Make what renews the lease when it is due; it may be called as often as one likes. Raises Fenced."""
    last = [time.monotonic()]

    def beat() -> None:
        if run.id and time.monotonic() - last[0] >= HEARTBEAT:
            renew_lease(work.link.conn, run)
            last[0] = time.monotonic()

    return beat
