"""`POST /etl/run`: queues runs for whoever holds the API key; a worker executes them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal, get_args

import structlog
from flask import Blueprint, Response, request
from pydantic import Field

from shared.model import RunStatus, SourceName
from web.access import request_id
from web.endpoints import JSON, Answer, Body, Headers, answered, endpoint
from web.enqueue import Mismatch, enqueue
from web.errors import Problem
from web.keys import require_key
from web.state import state

log = structlog.get_logger()

blueprint = Blueprint("trigger", __name__)
blueprint.before_request(require_key)  # before anything of the request is judged: a stranger learns nothing from it


class TriggerHeaders(Headers):
    """The key of one request: repeating it repeats the answer, not the run."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern="^[!-~]+$",
        description="a name of this request in visible ASCII: sent again within 24 hours, it is answered with the same runs",
    )


class TriggerBody(Body):
    """What to run."""

    source: Literal["all"] | SourceName = Field(description="one source, or `all`")


class QueuedRun(Answer):
    """A run that was asked for."""

    id: int
    source: str
    status: RunStatus
    requested_at: datetime
    outcome: Literal["queued", "joined", "replayed"] = Field(
        description="`queued` by this request; `joined`: it was queued already; `replayed`: an earlier request with this key asked for it"
    )


class TriggerAnswer(Answer):
    """The runs that were asked for, one a source."""

    request_id: str
    runs: list[QueuedRun]


@blueprint.post("/etl/run")
@endpoint(
    "Queue a run",
    body=TriggerBody,
    headers=TriggerHeaders,
    answer=TriggerAnswer,
    status=202,
    errors=(401, 403, 413, 415, 422, 429),
    sends=("Location",),
    keyed=True,
)
def queue_runs() -> Response:
    """Queue a run of a source, or of each of them, for a worker to execute.

    A source that is queued already is not queued again: the answer names the run that waits. `Location` leads to the first of the runs.
    """
    key = TriggerHeaders.model_validate(dict(request.headers.items())).idempotency_key
    wanted = TriggerBody.model_validate(read_object()).source
    try:
        queued = enqueue(primary(), get_args(SourceName) if wanted == "all" else (wanted,), key)
    except Mismatch as mismatch:
        raise Problem(422, str(mismatch), errors=[{"parameter": "Idempotency-Key", "reason": "was used for another request"}]) from None
    log.info("runs queued", source=wanted, run_ids=[run.id for run in queued], outcomes=[run.outcome for run in queued])
    response = answered(
        TriggerAnswer(request_id=request_id(), runs=[QueuedRun.model_validate(run, from_attributes=True) for run in queued]), 202
    )
    response.headers["Location"] = f"/runs/{queued[0].id}"
    response.autocorrect_location_header = False
    response.headers["Cache-Control"] = "no-store"
    return response


def primary() -> str:
    """The database that can be written to: the ETL's where it is named, for the API may read a replica of it."""
    named = state().settings.database_url
    return named.get_secret_value() if named else state().reader.dsn


def read_object() -> dict[str, Any]:
    """Read the body as one JSON object in UTF-8 whose members have different names. Raises Problem."""
    if request.mimetype != JSON:
        raise Problem(415, "send the body as application/json")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem(415, "send the body as it is, without a Content-Encoding")
    try:
        found = json.loads(request.get_data().decode("utf-8"), object_pairs_hook=distinct)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not a JSON object", errors=[{"parameter": "body", "reason": "is not a JSON object"}]) from None
    if not isinstance(found, dict):
        raise Problem(400, "the body is not a JSON object", errors=[{"parameter": "body", "reason": "is not a JSON object"}])
    return found


def distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of members with different names. Raises Problem: of two equal ones, readers take different ones."""
    found = dict(members)
    if len(found) < len(members):
        raise Problem(400, "a member of the body is given twice", errors=[{"parameter": "body", "reason": "has a member twice"}])
    return found
