"""From what was asked for to jobs: what is planned, what of it is stored already, and what would be asked of an upstream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from etl.backfill import coingecko, coinpaprika
from etl.backfill.files import Stream, Survey
from etl.backfill.history import History
from etl.backfill.ranges import Range, Window, asks, expected_seconds, windows
from etl.backfill.store import Tally, find_backfill, get_tally, join_backfill, list_top_assets
from etl.backfill.work import FileJob, RangeJob
from etl.errors import SourceError
from shared.db import Connection
from shared.settings import Settings

HISTORIES: dict[str, History] = {module.HISTORY.source.name: module.HISTORY for module in (coinpaprika, coingecko)}
"""The sources whose history can be asked for: one line each."""


@dataclass(frozen=True, slots=True)
class RangePlan:
    """A range, the windows it is cut into, the assets, and how far it is when it was begun before."""

    wanted: Range
    request: dict[str, Any]
    parts: list[Window]
    assets: list[str]
    limits: str
    seconds: float
    tally: Tally | None

    @property
    def chunks(self) -> int:
        """How many chunks, which is how many calls."""
        return len(self.parts) * len(self.assets)

    @property
    def not_allowed(self) -> int:
        """How many chunks the plan of the key will refuse, as far as its known limits tell."""
        return sum(not part.allowed for part in self.parts) * len(self.assets)


def plan_range(
    conn: Connection, settings: Settings, wanted: Range, assets: Sequence[str] | None, top: int | None, now: datetime
) -> RangePlan:
    """Plan a range for the assets named, for the first by rank, or for all that are known. Raises SourceError when none is."""
    history = HISTORIES[wanted.source]
    whom: Any = list(assets) if assets else {"top": top} if top else "all"
    request = {"source": wanted.source, "from": wanted.since.isoformat(), "to": wanted.until.isoformat(), "interval": wanted.interval}
    request |= {"assets": whom}
    known = list(assets) if assets else list_top_assets(conn, wanted.source, top)
    if not known:
        step = f"run `kasparro-etl run --source {wanted.source}` first, or name some with --assets"
        raise SourceError(f"no asset of {wanted.source} is known: {step}", permanent=True)
    parts = windows(history, settings, wanted, now)
    calls, limit = len(parts) * len(known), history.source.rate_limit(settings)
    words = history.allowance(settings, wanted.interval).words
    found = find_backfill(conn, request)
    tally = get_tally(conn, [found.id]) if found else None
    return RangePlan(wanted, request, parts, known, words, expected_seconds(calls, limit), tally)


def begin_range(conn: Connection, plan: RangePlan) -> dict[int, FileJob | RangeJob]:
    """Store a range, or join the stored one."""

    def chunks() -> list[tuple[Any, ...]]:
        return [(ask.external_id, ask.since, ask.until, None, None, None, None) for ask in asks(plan.wanted, plan.parts, plan.assets)]

    stored = join_backfill(conn, plan.wanted.source, plan.request, chunks)
    return {stored.id: RangeJob(HISTORIES[plan.wanted.source], plan.wanted.interval)}


def file_request(survey: Survey) -> dict[str, Any]:
    """What makes two files the same backfill: their bytes, and what is made of them."""
    return {"source": survey.source, "file": survey.digest, "asset": survey.asset, "points": survey.points}


def begin_file(conn: Connection, survey: Survey) -> dict[int, FileJob | RangeJob]:
    """Store a file's blocks, or join the stored ones."""

    def chunks() -> list[tuple[Any, ...]]:
        return [(None, None, None, part.start, part.end, part.line, part.sha256) for part in survey.parts]

    stored = join_backfill(conn, survey.source, file_request(survey), chunks, in_order=survey.in_order)
    return {stored.id: FileJob(survey, stored.created_at, Stream(survey.path))}
