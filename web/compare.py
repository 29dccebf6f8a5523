"""`GET /compare-runs`: two runs side by side, and what is unusual about each for its source."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response
from pydantic import Field, RootModel

from shared.anomalies import COMPARED, LAST, Rule, difference, find_anomalies
from sql import queries
from web.access import latency_ms, request_id
from web.db import Connection, read, snapshot
from web.endpoints import JSON, Answer, Query, answered, endpoint
from web.errors import Problem
from web.pages import HTML, TEXT, paged
from web.parameters import Whole
from web.runs import RunAnswer
from web.state import state

blueprint = Blueprint("compare", __name__)


class CompareQuery(Query):
    """Which two runs; neither means the last two finished runs of each source but replays and backfills."""

    a: Whole | None = Field(None, ge=1, description="the id of a finished run")
    b: Whole | None = Field(None, ge=1, description="the id of another, of any source")


class DifferenceAnswer(Answer):
    """What b has more than a."""

    absolute: float | None = Field(description="b minus a; null when one of them is unknown")
    percent: float | None = Field(description="of a; null when a is zero or unknown")


class DifferencesAnswer(Answer):
    """What b has more than a, number by number."""

    records_extracted: DifferenceAnswer
    records_inserted: DifferenceAnswer
    records_updated: DifferenceAnswer
    records_unchanged: DifferenceAnswer
    records_quarantined: DifferenceAnswer
    duration_seconds: DifferenceAnswer


class AnomalyAnswer(Answer):
    """One thing that is unusual about a run."""

    rule: Rule
    run_id: int
    value: float | None = Field(description="what the run has")
    median: float | None = Field(description="what the runs before it have")
    threshold: float | None = Field(description="what the value would have had to keep to")
    compared_runs: int = Field(description="how many runs before it the median is of")
    message: str


class ComparisonAnswer(Answer):
    """Two runs, their differences, and what is unusual about either against earlier runs of its source."""

    a: RunAnswer
    b: RunAnswer
    differences: DifferencesAnswer
    anomalies: list[AnomalyAnswer]


class ComparedAnswer(ComparisonAnswer):
    """The comparison of the two runs asked for."""

    request_id: str
    api_latency_ms: float


class LatestAnswer(Answer):
    """A comparison of the last two finished runs, replays and backfills aside, of every source that has two."""

    request_id: str
    api_latency_ms: float
    comparisons: list[ComparisonAnswer]


class CompareAnswer(RootModel[ComparedAnswer | LatestAnswer]):
    """One comparison for two ids, else a list of them."""


@blueprint.get("/compare-runs")
@endpoint(
    "Compare two runs, or the last two of each source", query=CompareQuery, answer=CompareAnswer, produces=(JSON, HTML, TEXT), errors=(404,)
)
@paged
def compare_runs(query: CompareQuery) -> Response:
    """Answer the comparison of two runs, or of each source's last two."""
    one = require_two(query)
    found = read(state().reader, lambda conn: compared(conn, query))
    surrounds = {"request_id": request_id(), "api_latency_ms": latency_ms()}
    told = surrounds | found[0] if one else surrounds | {"comparisons": found}
    return answered((ComparedAnswer if one else LatestAnswer).model_validate(told))


def require_two(query: CompareQuery) -> bool:
    """Whether two runs are asked for, rather than none. Raises Problem for anything in between."""
    one = query.a is not None or query.b is not None
    if one and (query.a is None or query.b is None):
        missing = "a" if query.a is None else "b"
        raise Problem(400, "two runs are needed, or none: give a and b", errors=[{"parameter": missing, "reason": "is missing"}])
    if one and query.a == query.b:
        raise Problem(
            400,
            "a run cannot be compared with itself: GET /runs lists the others",
            errors=[{"parameter": "b", "reason": "is the same run as a"}],
        )
    return one


def compared(conn: Connection, query: CompareQuery) -> list[dict[str, Any]]:
    """Read and compare, as of one instant. Raises Problem for a run that is unknown or not finished."""
    with snapshot(conn):
        pairs = [[query.a, query.b]]
        if query.a is None:
            pairs = [row["ids"][::-1] for row in conn.execute(queries["list_last_pairs"]).fetchall() if len(row["ids"]) == 2]
        ids = [each for pair in pairs for each in pair]
        runs = {row["id"]: row for row in conn.execute(queries["list_runs_by_id"], {"ids": ids}).fetchall()}
        for name, each in (("a", query.a), ("b", query.b)):
            require_finished(name, each, runs)
        return [comparison(conn, runs[a], runs[b]) for a, b in pairs]


def require_finished(name: str, run_id: int | None, runs: dict[int, dict[str, Any]]) -> None:
    """Check that a run asked for is there and came to an end. Raises Problem."""
    if run_id is None:
        return
    if run_id not in runs:
        raise Problem(404, f"there is no run {run_id}: GET /runs lists them")
    if runs[run_id]["finished_at"] is None:
        told = [{"parameter": name, "reason": f"run {run_id} is {runs[run_id]['status']}"}]
        raise Problem(400, f"run {run_id} is not finished: ask again when it is", errors=told)


def comparison(conn: Connection, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Two runs, their differences, and the anomalies of both."""
    differences = {name: difference(a[name], b[name]) for name in COMPARED}
    return {"a": a, "b": b, "differences": differences, "anomalies": [*anomalies(conn, a), *anomalies(conn, b)]}


def anomalies(conn: Connection, run: dict[str, Any]) -> list[dict[str, Any]]:
    """What is unusual about a run, against up to ten successful runs of its source before it."""
    wanted = {"source": run["source"], "run_id": run["id"], "trigger": run["trigger"], "last": LAST}
    usual = conn.execute(queries["get_usual_run"], wanted).fetchone() or {}
    return [asdict(anomaly) for anomaly in find_anomalies(run, usual)]
