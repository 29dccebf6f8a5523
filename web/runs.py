"""`GET /runs` and `/runs/{id}`: what ran, newest first, and all there is to one run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args
from urllib.parse import urlencode

from flask import Blueprint, Response
from pydantic import Field

from shared.model import RunStatus, Trigger
from sql import queries
from web.access import latency_ms, request_id
from web.db import Connection, read, rows, snapshot
from web.drift import DriftEventAnswer
from web.endpoints import JSON, Answer, Query, answered, endpoint
from web.errors import Problem
from web.pages import HTML, TEXT, paged
from web.parameters import Text, Whole
from web.quarantine import QuarantinedAnswer, quarantined
from web.state import state

blueprint = Blueprint("runs", __name__)

SHOWN = 20
"""How many quarantined records and changes a run shows; the rest is under /quarantine and /drift."""
LARGEST_ID = 2**63 - 1


class RunsQuery(Query):
    """Which runs."""

    source: Text | None = Field(None, description="only of this source")
    status: RunStatus | None = Field(None, description=f"only in this state: {', '.join(get_args(RunStatus))}")
    limit: Whole = Field(50, ge=1, le=1000, description="how many")
    before: Whole | None = Field(None, ge=1, description="only runs older than the one with this id: the last of a page leads to the next")


class RunAnswer(Answer):
    """One run with its counters."""

    id: int
    source: str
    trigger: Trigger
    status: RunStatus
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    records_extracted: int
    records_inserted: int
    records_updated: int
    records_unchanged: int
    records_quarantined: int
    error_type: str | None
    error_message: str | None
    resumed_from: int | None = Field(description="the interrupted run whose work this one went on with")
    host: str | None
    version: str | None


class RunsAnswer(Answer):
    """A page of runs."""

    request_id: str
    api_latency_ms: float
    data: list[RunAnswer]
    next: str | None = Field(description="the address of the next page")


class BatchesQuery(Query):
    """Which of the run's batches."""

    limit: Whole = Field(100, ge=1, le=1000, description="how many batches")
    after: Whole = Field(0, ge=0, description="only batches after the one with this seq: the last of a page leads to the next")


class BatchAnswer(Answer):
    """What one transaction committed: the records `first_position` up to, not including, `next_position` of a payload."""

    seq: int
    raw_id: int
    first_position: int
    next_position: int
    inserted: int
    updated: int
    unchanged: int
    quarantined: int
    committed_at: datetime


class BatchesAnswer(Answer):
    """A page of a run's batches."""

    total: int
    data: list[BatchAnswer]
    next: str | None = Field(description="the address of the next page of batches")


class RunQuarantineAnswer(Answer):
    """The quarantined records that this run was the last to see: how many, and the newest."""

    total: int
    data: list[QuarantinedAnswer]
    next: str | None = Field(description="where all of them are")


class RunErrorAnswer(Answer):
    """Why a run ended as it did."""

    type: str | None
    message: str | None


class RunDetailAnswer(RunAnswer):
    """One run with its batches, what changed upstream, what it quarantined and why it failed."""

    request_id: str
    api_latency_ms: float
    batches: BatchesAnswer
    drift: list[DriftEventAnswer] = Field(description="changes that this run was the last to see, newest first")
    quarantine: RunQuarantineAnswer
    errors: list[RunErrorAnswer]


@blueprint.get("/runs")
@endpoint("List runs, newest first", query=RunsQuery, answer=RunsAnswer)
def list_runs(query: RunsQuery) -> Response:
    """Answer a page of runs."""
    wanted = query.model_dump() | {"more": query.limit + 1}
    found = [RunAnswer.model_validate(row) for row in rows(state().reader, queries["list_runs"], wanted)]
    page, more = found[: query.limit], len(found) > query.limit
    given = query.model_dump(exclude_none=True, exclude={"before"})
    following = f"/runs?{urlencode(given | {'before': page[-1].id})}" if more else None
    return answered(RunsAnswer(request_id=request_id(), api_latency_ms=latency_ms(), data=page, next=following))


@blueprint.get("/runs/<int:run_id>")
@endpoint(
    "One run with its batches, drift, quarantine and errors",
    query=BatchesQuery,
    answer=RunDetailAnswer,
    produces=(JSON, HTML, TEXT),
    errors=(404,),
)
@paged
def get_run(run_id: int, query: BatchesQuery) -> Response:
    """Answer all there is to one run, as of one instant."""
    if run_id > LARGEST_ID:
        raise unknown_run(run_id)
    return answered(RunDetailAnswer.model_validate(read(state().reader, lambda conn: found_run(conn, run_id, query))))


def found_run(conn: Connection, run_id: int, query: BatchesQuery) -> dict[str, Any]:
    """Read a run and what belongs to it. Raises Problem when there is none."""
    with snapshot(conn):
        run = conn.execute(queries["get_run"], {"run_id": run_id}).fetchone()
        if run is None:
            raise unknown_run(run_id)
        wanted = {"run_id": run_id, "source": None, "change": None, "all": True, "before": None, "more": SHOWN}
        batches = conn.execute(queries["list_batch_page"], {"run_id": run_id, "after": query.after, "more": query.limit + 1}).fetchall()
        kept = conn.execute(queries["list_quarantine_page"], wanted).fetchall()
        held = conn.execute(queries["count_run_quarantine"], {"run_id": run_id}).fetchone() or {"records": 0}
        drift = conn.execute(queries["list_drift_page"], wanted).fetchall()
        total = conn.execute(queries["count_run_batches"], {"run_id": run_id}).fetchone() or {"batches": 0}
    failed = run["error_type"] or run["error_message"]
    page, more = batches[: query.limit], len(batches) > query.limit
    following = f"/runs/{run_id}?{urlencode({'limit': query.limit, 'after': page[-1]['seq']})}" if more else None
    return {
        **run,
        "request_id": request_id(),
        "api_latency_ms": latency_ms(),
        "batches": {"total": total["batches"], "data": page, "next": following},
        "drift": drift,
        "quarantine": {
            "total": held["records"],
            "data": [quarantined(row) for row in kept],
            "next": f"/quarantine?run_id={run_id}&all=true" if held["records"] > SHOWN else None,
        },
        "errors": [{"type": run["error_type"], "message": run["error_message"]}] if failed else [],
    }


def unknown_run(run_id: int) -> Problem:
    """No run has this id."""
    return Problem(404, f"there is no run {run_id if run_id <= LARGEST_ID else 'with so large an id'}: GET /runs lists them")
