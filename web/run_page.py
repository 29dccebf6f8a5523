"""`/runs/{id}` and `/compare-runs` as pages, for browsers: the same reads as the API's, and what lies around a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response

from shared.anomalies import BROKEN, COMPARED, difference
from sql import queries
from web.charts import Bar
from web.compare import CompareQuery, compared, require_two
from web.db import Connection, read, snapshot
from web.pages import either, page, page_of
from web.quarantine import quarantined
from web.runs import LARGEST_ID, SHOWN, BatchesQuery, unknown_run
from web.state import state
from web.verdict import command_after

blueprint = Blueprint("run_page", __name__)

BATCHES = 500
"""Batches that the timeline shows; the API has all."""
HEAD = 600
"""Bytes of the raw payload that are shown."""


@dataclass(frozen=True, slots=True)
class RunBoard:
    """All that the page of a run shows."""

    run: Mapping[str, Any]
    batches: list[dict[str, Any]]
    drift: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]

    @property
    def bars(self) -> list[Bar]:
        """The batches for the timeline."""
        began = self.run["started_at"]
        return [bar(batch, began) for batch in self.batches] if began else []

    @property
    def word(self) -> str:
        """How the run stands: one whose process is gone does not run."""
        return "stalled" if self.run["stalled"] else str(self.run["status"])

    @property
    def refused(self) -> int:
        """Batches that were counted and not committed: the one that ended a refused run."""
        return int(self.run["status"] == "refused" and self.run["batches"] == len(self.batches) + 1)

    @property
    def committed(self) -> int:
        """Batches that were committed."""
        return int(self.run["batches"]) - self.refused

    @property
    def command(self) -> str | None:
        """What to type, when the newest run of its source did not end well."""
        if not self.run["newest"] or self.word not in ("stalled", *BROKEN):
            return None
        return command_after(self.run["source"], self.word, self.run["error_message"])

    @property
    def told(self) -> str:
        """The timeline in words."""
        records = [each.records for each in self.bars]
        number = f"{len(records):,} {'batch' if len(records) == 1 else 'batches'}"
        first, last = self.bars[0].at, self.bars[-1].at
        return f"{number} of {min(records):,} to {max(records):,} records, committed {first:.1f} to {last:.1f} seconds after the start"

    @property
    def head(self) -> str | None:
        """How the payload begins, as text."""
        return bytes(self.run["head"]).decode("utf-8", "replace") if self.run["head"] is not None else None


def bar(batch: Mapping[str, Any], began: datetime) -> Bar:
    """One batch for the timeline."""
    after = (batch["committed_at"] - began).total_seconds()
    records = batch["next_position"] - batch["first_position"]
    return Bar(after, records, f"batch {batch['seq']}: {records:,} records after {after:.1f} s", bool(batch["quarantined"]))


@page_of("get_run")
@page
def show_run(run_id: int, query: BatchesQuery) -> Response:
    """Answer with all there is to one run."""
    if run_id > LARGEST_ID:
        raise unknown_run(run_id)
    board = read(state().reader, lambda conn: read_run(conn, run_id))
    run = board.run
    seconds = run["duration_seconds"]
    lasting = max([bar.at for bar in board.bars], default=0.0) if seconds is None else seconds
    return either("run", board=board, run=run, lasting=lasting, shown=SHOWN, now=datetime.now(UTC))


def read_run(conn: Connection, run_id: int) -> RunBoard:
    """Read a run and what belongs to it as of one instant. Raises Problem when there is none."""
    wanted = {"run_id": run_id, "source": None, "change": None, "all": True, "before": None, "more": SHOWN}
    with snapshot(conn):
        run = conn.execute(queries["get_run_board"], {"run_id": run_id, "head": HEAD}).fetchone()
        if run is None:
            raise unknown_run(run_id)
        batches = conn.execute(queries["list_batch_page"], {"run_id": run_id, "after": 0, "more": BATCHES}).fetchall()
        drift = conn.execute(queries["list_drift_page"], wanted).fetchall()
        kept = conn.execute(queries["list_quarantine_page"], wanted).fetchall()
    return RunBoard(run, batches, drift, [quarantined(row) for row in kept])


@page_of("compare_runs")
@page
def show_comparison(query: CompareQuery) -> Response:
    """Answer with two runs side by side, or with the last two of each source to choose from."""
    one = require_two(query)
    pairs = read(state().reader, lambda conn: compared(conn, query) if one else read_pairs(conn))
    return either("compare", pairs=pairs, one=one, compared=COMPARED, now=datetime.now(UTC))


def read_pairs(conn: Connection) -> list[dict[str, Any]]:
    """The last two finished runs of each source, replays and backfills aside; each pair's own page says what is unusual."""
    with snapshot(conn):
        ids = [row["ids"][::-1] for row in conn.execute(queries["list_last_pairs"]).fetchall() if len(row["ids"]) == 2]
        wanted = {"ids": [each for pair in ids for each in pair]}
        runs = {row["id"]: row for row in conn.execute(queries["list_runs_by_id"], wanted).fetchall()}
    pairs = [(runs[a], runs[b]) for a, b in ids]
    return [{"a": a, "b": b, "differences": {name: difference(a[name], b[name]) for name in COMPARED}} for a, b in pairs]
