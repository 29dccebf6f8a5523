"""How a process at work on a backfill waits for an upstream: behind the runs of its source, with signs of life."""

from __future__ import annotations

import time

from etl.backfill import store
from etl.backfill.work import RangeJob, Work
from etl.fetch import Waits
from etl.lease import Run
from etl.stop import listening, wait
from etl.waits import HEARTBEAT


def waits_of(work: Work, opened: Run) -> Waits:
    """How this process waits for an upstream: behind the runs of its source, and with signs of life."""
    last = [time.monotonic()]
    job = next((job for job in work.jobs.values() if isinstance(job, RangeJob)), None)
    limit = job.history.source.rate_limit(work.settings) if job else None

    def beat() -> None:
        if time.monotonic() - last[0] >= HEARTBEAT:
            store.renew_worker(work.link.conn, opened)
            last[0] = time.monotonic()

    def throttle() -> float:
        beat()
        return store.take_spare_call(work.link.conn, work.source, limit) if limit else 0.0

    def pause(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            wait(work.stop, min(left, HEARTBEAT))
            beat()

    return Waits(pause, throttle, beat, lambda: listening(work.stop), frozenset(work.settings.etl_allowed_hosts or ()))
