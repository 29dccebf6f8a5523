"""A range of time into chunks: one call each, cut where a plan ends. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from etl.backfill.history import STEPS, Allowance, Ask, History
from shared.model import RateLimit
from shared.settings import Settings

MOST_CHUNKS = 100_000
"""Beyond so many a range is taken for a mistake."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a backfill is asked for: the points of some assets from `since` until before `until`."""

    source: str
    since: datetime
    until: datetime
    interval: str


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a range that one call covers; `allowed` as far as the known limits of the plan tell."""

    since: datetime
    until: datetime
    allowed: bool


def windows(history: History, settings: Settings, wanted: Range, now: datetime) -> list[Window]:
    """Cut a range into windows of one call each, none with more points than a batch may hold, none across the edge of the plan."""
    step = STEPS[wanted.interval]
    length = min(history.windows[wanted.interval], step * max(1, settings.etl_batch_size))
    edge = edge_of(history.allowance(settings, wanted.interval), now)
    cuts = sorted({wanted.since, wanted.until, *([edge] if edge and wanted.since < edge < wanted.until else [])})
    return [Window(since, until, not edge or since >= edge) for start, end in pairwise(cuts) for since, until in cut(start, end, length)]


def edge_of(allowance: Allowance, now: datetime) -> datetime | None:
    """The first midnight that is surely within the plan, with a day to spare for the time until the call."""
    if allowance.reach is None:
        return None
    if allowance.reach <= timedelta(days=1):
        return now - allowance.reach + timedelta(hours=1) if allowance.reach else now + timedelta(days=1)
    return (now - allowance.reach).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=2)


def cut(since: datetime, until: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Cut a time into parts of at most a length."""
    while since < until:
        yield since, min(since + length, until)
        since += length


def asks(wanted: Range, parts: Sequence[Window], assets: Sequence[str]) -> Iterator[Ask]:
    """The chunks in the order in which they are loaded: asset by asset, the newest window first."""
    return (Ask(asset, part.since, part.until, wanted.interval) for asset in assets for part in reversed(parts))


def spare_calls(limit: RateLimit) -> int:
    """How many calls of a period a backfill may take: half of them stay for runs."""
    return max(1, limit.calls // 2)


def expected_seconds(calls: int, limit: RateLimit | None) -> float:
    """How long so many calls take within the limit."""
    return calls * limit.seconds / spare_calls(limit) if limit else 0.0
