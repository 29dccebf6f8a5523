"""How a source stands, in one word that is the same in `kasparro-etl status`, `/health`, `/metrics` and on the dashboard. Pure."""

from __future__ import annotations

from typing import Literal, get_args

from shared.anomalies import BROKEN
from shared.model import RunStatus

SourceState = Literal["new", "running", "stalled", "failed", "refused", "late", "up"]
STATES: tuple[SourceState, ...] = get_args(SourceState)
TROUBLE = ("stalled", "failed", "refused", "late")
"""The states that ask for a look."""
INTERVALS = 2
"""Intervals (ETL_INTERVAL_MINUTES) without success after which a source is late."""


def state_of(last: RunStatus | None, stalled: bool, lag: float | None, interval_minutes: float) -> SourceState:
    """Judge a source by its runs by hand, cron and API; `lag`: seconds since its last success, None before the first.

    new: no run came to an end. running: one is under way; stalled: its process is gone. failed, refused: how the last one ended, failed
    also when its process died. late: no success for two intervals. up: none of these.
    """
    if last is None or (last == "cancelled" and lag is None):
        return "new"
    if last == "running":
        return "stalled" if stalled else "running"
    if last in BROKEN:
        return "refused" if last == "refused" else "failed"
    return "late" if lag is None or lag > late_after(interval_minutes) else "up"


def late_after(interval_minutes: float) -> float:
    """Seconds without success that are too many."""
    return INTERVALS * 60.0 * interval_minutes
