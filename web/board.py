"""What the dashboard shows, read in five statements as of one instant, once for all who look at the same time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from flask import current_app

from shared.states import state_of
from sql import queries
from web.cache import Cache, cached
from web.db import Connection, read, snapshot
from web.health import read_stands
from web.state import state
from web.stats import SOURCES
from web.verdict import Need, SourceBoard, Verdict, judge, list_needs

STRIP = 30
"""Runs of a source that are shown as squares."""
RECENT = 25
DRIFT = 50
STANDS = 2.0
"""Seconds for which a board is shown again to whoever asks."""
GOOD = ("success", "partial")
NEAR = ("backfill", "replay")


@dataclass(frozen=True, slots=True)
class Board:
    """Everything on the dashboard. `usual`: the median of seconds of the runs before each run, by its id."""

    now: datetime
    sources: tuple[SourceBoard, ...]
    runs: tuple[Mapping[str, Any], ...]
    usual: Mapping[int, float]
    drift: tuple[Mapping[str, Any], ...]
    system: Mapping[str, Any]
    took_ms: float

    @property
    def verdict(self) -> Verdict:
        """Whether all is well."""
        return judge(self.sources, self.drift)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What waits for a person."""
        return list_needs(self.sources, self.drift, self.now)

    @property
    def running(self) -> tuple[Mapping[str, Any], ...]:
        """The runs under way."""
        return tuple(run for run in self.runs if run["status"] == "running")

    @property
    def recent(self) -> tuple[Mapping[str, Any], ...]:
        """The newest runs of all."""
        return self.runs[:RECENT]

    def word(self, run: Mapping[str, Any]) -> str:
        """How a run stands: one whose process is gone does not run."""
        stalled = any(each.name == run["source"] and each.state == "stalled" for each in self.sources)
        return "stalled" if stalled and run["status"] == "running" else str(run["status"])

    @property
    def queued(self) -> tuple[Mapping[str, Any], ...]:
        """The runs that wait for a worker."""
        return tuple(run for run in self.runs if run["status"] == "queued")

    def strip(self, source: SourceBoard) -> list[tuple[Mapping[str, Any], int]]:
        """The runs of a source, oldest first, each with how tall its square is: from 1, quick, to 4, far longer than usual."""
        return [(run, height(run["duration_seconds"], self.usual.get(run["id"]))) for run in reversed(source.runs)]

    def records(self, source: SourceBoard) -> list[int]:
        """How many records each successful run of a source had, oldest first."""
        return [run["records_extracted"] for run in reversed(source.runs) if run["status"] in GOOD]

    def usual_records(self, run: Mapping[str, Any]) -> int | None:
        """How many records runs of a source usually have; None before the first that had any."""
        ended = [each["records_extracted"] for each in self.runs if each["source"] == run["source"] and each["status"] in GOOD]
        return int(median(found)) if (found := [count for count in ended if count][:10]) else None

    def before(self, run: Mapping[str, Any]) -> int | None:
        """The finished run of the same source before a run, as far as the board knows."""
        ended = (each["id"] for each in self.runs if each["source"] == run["source"] and each["id"] < run["id"])
        known = {each["id"]: each for each in self.runs}
        return next((each for each in ended if known[each]["finished_at"] and known[each]["started_at"]), None)


def current_board() -> Board:
    """The board of all sources, read anew every STANDS seconds at most and by one request at a time. Raises DatabaseError, SchemaError."""
    cache: Cache = current_app.extensions.setdefault("kasparro.board", Cache(4096))
    board: Board = cached(cache, int(time.monotonic() / STANDS), lambda: (read(state().reader, read_board), 1))
    return board


def board_of(board: Board, source: str | None) -> Board:
    """What a board says of one source, or all of it."""
    if source is None:
        return board
    return replace(
        board,
        sources=tuple(each for each in board.sources if each.name == source),
        runs=tuple(run for run in board.runs if run["source"] == source),
        drift=tuple(each for each in board.drift if each["source"] == source),
    )


def read_board(conn: Connection) -> Board:
    """Read a board: the same statements as /health, /metrics and `kasparro-etl drift list`, and two of its own."""
    began = time.perf_counter()
    with snapshot(conn):
        health = read_stands(conn)
        gauges = {row["source"]: row for row in conn.execute(queries["list_source_gauges"], {"sources": SOURCES})}
        runs = conn.execute(queries["list_latest_runs"], {"sources": SOURCES, "limit": STRIP}).fetchall()
        drift = conn.execute(queries["list_drift"], {"source": None, "all": False, "limit": DRIFT}).fetchall()
        found = conn.execute(queries["get_board"], {"sources": list(gauges)}).fetchall()[0]
    period = 60.0 * state().settings.etl_interval_minutes
    sources = tuple(source_board(line, gauges.get(line["source"], {}), runs, found, period) for line in health)
    return Board(found["now"], sources, tuple(runs), usual_seconds(runs), tuple(drift), found, (time.perf_counter() - began) * 1000)


def source_board(
    line: Mapping[str, Any], gauges: Mapping[str, Any], runs: list[dict[str, Any]], found: Mapping[str, Any], period: float
) -> SourceBoard:
    """Put together what is known of a source."""
    name, lag, succeeded = line["source"], line["lag_seconds"], line["last_success_at"]
    stand, oldest = state_of(line["last_run_status"], line["stalled"], lag, period / 60), found["quarantine"].get(name)
    if oldest:
        oldest = oldest | {"first_seen_at": datetime.fromisoformat(oldest["first_seen_at"])}
    return SourceBoard(
        name=name,
        state=stand,
        last_success_at=succeeded,
        next_due_at=succeeded + timedelta(seconds=period) if succeeded else None,
        lag=lag,
        overdue=lag - period if lag is not None and lag > 2 * period else None,
        runs=tuple(run for run in runs if run["source"] == name),
        quarantined=gauges.get("open_quarantined", 0),
        oldest=oldest,
        drift=gauges.get("open_drift", 0),
        stored=gauges.get("stored", 0),
        budget=found["budgets"].get(name),
        checkpoint=found["checkpoints"].get(name),
    )


def height(seconds: float | None, usual: float | None) -> int:
    """How tall a run's square is, by its duration against the usual one."""
    if seconds is None or not usual:
        return 2
    return 1 + sum(seconds > factor * usual for factor in (0.7, 1.5, 3.0))


def usual_seconds(runs: list[dict[str, Any]]) -> dict[int, float]:
    """For each run the median of seconds of the successful runs of its source before it, scheduled ones and others apart."""
    usual: dict[int, float] = {}
    for place, run in enumerate(runs):
        like = [
            each["duration_seconds"]
            for each in runs[place + 1 :]
            if each["source"] == run["source"] and each["status"] in GOOD and (each["trigger"] in NEAR) == (run["trigger"] in NEAR)
        ]
        if like[:10]:
            usual[run["id"]] = median(like[:10])
    return usual
