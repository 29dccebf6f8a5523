"""`GET /drift`: changes in what upstreams send."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import urlencode

from flask import Blueprint, Response
from pydantic import Field

from sql import queries
from web.access import latency_ms, request_id
from web.db import rows
from web.endpoints import Answer, Query, answered, endpoint
from web.parameters import Text, Whole
from web.state import state

blueprint = Blueprint("drift", __name__)

Change = Literal["added", "missing", "renamed", "retyped"]


class DriftQuery(Query):
    """Which changes."""

    source: Text | None = Field(None, description="only of this source")
    change: Change | None = Field(None, description="only of this kind")
    run_id: Whole | None = Field(None, ge=1, description="only those that this run was the last to see")
    all: bool = Field(False, description="those that were accepted or have ended since too")
    limit: Whole = Field(50, ge=1, le=1000, description="how many")
    before: Whole | None = Field(None, ge=1, description="only those with a smaller id: the last of a page leads to the next")


class DriftEventAnswer(Answer):
    """A change in what an upstream sends."""

    id: int
    source: str
    field: str
    change: Change
    suggested_field: str | None = Field(description="where the field may have gone")
    confidence: float | None = Field(description="how sure that is, from 0 to 1")
    sample: str | None
    first_seen_at: datetime
    last_seen_at: datetime
    accepted_at: datetime | None
    resolved_at: datetime | None = Field(description="when the field was as before again, or a person dismissed the change")
    run_id: int = Field(description="the run that saw it last")


class DriftAnswer(Answer):
    """A page of changes."""

    request_id: str
    api_latency_ms: float
    data: list[DriftEventAnswer]
    next: str | None = Field(description="the address of the next page")


@blueprint.get("/drift")
@endpoint("List changes in what upstreams send, newest first", query=DriftQuery, answer=DriftAnswer)
def list_drift(query: DriftQuery) -> Response:
    """Answer a page of changes."""
    found = rows(state().reader, queries["list_drift_page"], query.model_dump() | {"more": query.limit + 1})
    page = [DriftEventAnswer.model_validate(row) for row in found[: query.limit]]
    given = query.model_dump(mode="json", exclude_none=True, exclude={"before", "all"}) | ({"all": "true"} if query.all else {})
    following = f"/drift?{urlencode(given | {'before': page[-1].id})}" if len(found) > query.limit else None
    return answered(DriftAnswer(request_id=request_id(), api_latency_ms=latency_ms(), data=page, next=following))
