"""`GET /health`, `/health/live`, `/health/ready`: how the database and every source stand, within two seconds whatever happens."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal

from flask import Blueprint, Response
from pydantic import Field

from shared.errors import DatabaseError, SchemaError
from shared.model import RunStatus
from shared.states import TROUBLE, SourceState, late_after, state_of
from sql import queries, read_migrations
from web.db import OTHER_SCHEMA, Connection, read
from web.endpoints import Answer, answered, endpoint
from web.errors import RETRY_AFTER, note_outage
from web.state import state
from web.stats import SOURCES

blueprint = Blueprint("health", __name__)

Stand = Literal["idle", "running", "failed", "never_run"]
VERSION = version("kasparro-etl")
NEWEST = read_migrations()[-1].name
"""The migration without which the database is not the one this version reads, even where every column of one statement is there."""


class SourceHealthAnswer(Answer):
    """How a source stands; only runs by hand, cron and the API count, as in `kasparro-etl status`."""

    source: str
    state: SourceState = Field(
        description="as in `kasparro-etl status`. new: no run came to an end; running; stalled: its process is gone; failed, refused: its "
        "last run; late: no success for two ETL_INTERVAL_MINUTES; up: none of these"
    )
    last_success_at: datetime | None
    last_run_status: RunStatus | None
    lag_seconds: float | None = Field(description="how long ago the last success was")
    stale: bool = Field(description="it ran, but not with success for two ETL_INTERVAL_MINUTES")


class HealthAnswer(Answer):
    """unhealthy: the database does not answer or is not migrated. degraded: a source failed or is stale. healthy otherwise."""

    status: Literal["healthy", "degraded", "unhealthy"]
    database_connected: bool
    etl_status: Stand | None = Field(
        description="running if any source is, else failed if any failed, was refused or stalled; null when the database does not say"
    )
    sources: list[SourceHealthAnswer]
    version: str


class AliveAnswer(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(Answer):
    """The database answers and is migrated."""

    status: Literal["ready"] = "ready"


@blueprint.get("/health")
@endpoint("How the database and every source stand", answer=HealthAnswer)
def get_health() -> Response:
    """Answer how everything stands: 200 when healthy or degraded, 503 when unhealthy."""
    try:
        sources = found_health()
    except (DatabaseError, SchemaError) as error:
        note_outage(error)
        connected = isinstance(error, SchemaError) or not error.passing  # it answered, but lets us read nothing
        bad = HealthAnswer(status="unhealthy", database_connected=connected, etl_status=None, sources=[], version=VERSION)
        response = answered(bad, 503)
        response.headers["Retry-After"] = str(RETRY_AFTER)
    else:
        states = {source.state for source in sources}
        degraded = bool(states & set(TROUBLE)) or any(source.stale for source in sources)
        response = answered(
            HealthAnswer(
                status="degraded" if degraded else "healthy",
                database_connected=True,
                etl_status=stand_of(states),
                sources=sources,
                version=VERSION,
            )
        )
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/health/live")
@endpoint("Whether the process answers", answer=AliveAnswer)
def get_alive() -> Response:
    """Answer without a look at the database."""
    return answered(AliveAnswer())


@blueprint.get("/health/ready")
@endpoint("Whether requests can be served: the database answers and is migrated", answer=ReadyAnswer)
def get_ready() -> Response:
    """Answer 200, or 503 as any other endpoint would."""
    found_health()
    return answered(ReadyAnswer())


def found_health() -> list[SourceHealthAnswer]:
    """Read how every source stands. Raises DatabaseError, SchemaError."""
    lines = read(state().reader, read_stands)
    interval = state().settings.etl_interval_minutes
    return [SourceHealthAnswer.model_validate(line | judged(line, interval)) for line in lines]


def read_stands(conn: Connection) -> list[dict[str, Any]]:
    """Read a line of every source. Raises SchemaError on a schema older than this version; a newer one passes, as while versions change."""
    lines = conn.execute(queries["list_source_health"], {"sources": SOURCES, "newest": NEWEST}).fetchall()
    if not all(line["migrated"] for line in lines):
        raise SchemaError(OTHER_SCHEMA)
    return lines


def judged(line: dict[str, Any], interval: int) -> dict[str, Any]:
    """The state of a source, and whether it is stale, which it may be while it runs or after it failed."""
    last, lag = line["last_run_status"], line["lag_seconds"]
    word = state_of(last, line["stalled"], lag, interval)
    overdue = lag > late_after(interval) if lag is not None else last != "running"
    return {"state": word, "stale": word != "new" and overdue}


def stand_of(states: set[SourceState]) -> Stand:
    """How all sources stand together."""
    if "running" in states:
        return "running"
    if states & {"failed", "refused", "stalled"}:
        return "failed"
    return "idle" if states - {"new"} else "never_run"
