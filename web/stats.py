"""`GET /stats`: totals over all runs, a line a source, the latest runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

from flask import Blueprint, Response, current_app
from pydantic import Field

from shared.model import SourceName
from sql import queries
from web.access import latency_ms, request_id
from web.cache import Cache, cached
from web.db import Connection, read, snapshot
from web.endpoints import Answer, answered, endpoint
from web.runs import RunAnswer
from web.state import state

blueprint = Blueprint("stats", __name__)

RECENT = 10
SOURCES = list(get_args(SourceName))
ADDED = ("records_total", "runs_total", "runs_succeeded", "runs_failed", "records_processed")
LATEST = ("last_success_at", "last_failure_at")


class TotalsAnswer(Answer):
    """What runs did, counting backfills and replays too."""

    records_total: int = Field(description="records stored now")
    runs_total: int = Field(description="all runs, whatever became of them")
    runs_succeeded: int = Field(description="runs that ended as success or partial")
    runs_failed: int = Field(description="runs that ended as failed, refused or abandoned")
    records_processed: int = Field(description="records that runs extracted and committed")
    last_success_at: datetime | None
    last_failure_at: datetime | None


class SourceTotalsAnswer(TotalsAnswer):
    """What the runs of one source did."""

    source: str
    average_duration_seconds: float | None
    last_error: str | None = Field(description="why the last failed run failed, even if runs succeeded since")


class StatsAnswer(Answer):
    """Totals, a line a source, the latest runs, all as of one instant."""

    request_id: str
    api_latency_ms: float
    summary: TotalsAnswer
    sources: list[SourceTotalsAnswer]
    recent_runs: list[RunAnswer]


@blueprint.get("/stats")
@endpoint("Totals over all runs", answer=StatsAnswer)
def get_stats() -> Response:
    """Answer the totals; who asks at the same time gets what one of them reads."""
    flights: Cache = current_app.extensions.setdefault("kasparro.stats", Cache(0))
    lines, recent = cached(flights, "stats", lambda: (read(state().reader, found_stats), 1))
    summary = {name: sum(line[name] for line in lines) for name in ADDED}
    summary |= {name: max((line[name] for line in lines if line[name]), default=None) for name in LATEST}
    told = {"request_id": request_id(), "api_latency_ms": latency_ms(), "summary": summary, "sources": lines, "recent_runs": recent}
    return answered(StatsAnswer.model_validate(told))


def found_stats(conn: Connection) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read the totals of each source and the latest runs as of one instant."""
    with snapshot(conn):
        lines = conn.execute(queries["list_source_totals"], {"sources": SOURCES}).fetchall()
        latest = {"source": None, "status": None, "before": None, "more": RECENT}
        return lines, conn.execute(queries["list_runs"], latest).fetchall()
