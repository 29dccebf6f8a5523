"""`GET /quarantine`: records that did not validate, with their reasons."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response
from pydantic import Field

from sql import queries
from web.access import latency_ms, request_id
from web.db import rows
from web.endpoints import Answer, Query, answered, endpoint
from web.parameters import Text, Whole
from web.state import state

blueprint = Blueprint("quarantine", __name__)


class QuarantineQuery(Query):
    """Which quarantined records."""

    source: Text | None = Field(None, description="only of this source")
    run_id: Whole | None = Field(None, ge=1, description="only those that this run was the last to see")
    all: bool = Field(False, description="those that were resolved since too")
    limit: Whole = Field(50, ge=1, le=1000, description="how many")
    before: Whole | None = Field(None, ge=1, description="only those with a smaller id: the last of a page leads to the next")


class ReasonAnswer(Answer):
    """What is wrong with a record."""

    field: str | None
    reason: str


class QuarantinedAnswer(Answer):
    """A record that did not validate."""

    id: int
    source: str
    run_id: int = Field(description="the run that saw it last")
    raw_id: int
    raw_position: int | None = Field(description="its place in the payload; null when the payload was set aside as a whole")
    record: str = Field(description="how it begins, as upstream sent it, at most 2000 bytes; bytes that are no UTF-8 are replaced")
    record_bytes: int
    errors: list[ReasonAnswer]
    first_seen_at: datetime
    last_seen_at: datetime
    attempts: int
    resolved_at: datetime | None


class QuarantineAnswer(Answer):
    """A page of quarantined records."""

    request_id: str
    api_latency_ms: float
    data: list[QuarantinedAnswer]
    next: str | None = Field(description="the address of the next page")


@blueprint.get("/quarantine")
@endpoint("List quarantined records, newest first", query=QuarantineQuery, answer=QuarantineAnswer)
def list_quarantine(query: QuarantineQuery) -> Response:
    """Answer a page of quarantined records."""
    found = rows(state().reader, queries["list_quarantine_page"], query.model_dump() | {"more": query.limit + 1})
    page = [QuarantinedAnswer.model_validate(quarantined(row)) for row in found[: query.limit]]
    given = query.model_dump(mode="json", exclude_none=True, exclude={"before", "all"}) | ({"all": "true"} if query.all else {})
    following = f"/quarantine?{urlencode(given | {'before': page[-1].id})}" if len(found) > query.limit else None
    return answered(QuarantineAnswer(request_id=request_id(), api_latency_ms=latency_ms(), data=page, next=following))


def quarantined(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its record as text."""
    return row | {"record": bytes(row["beginning"]).decode("utf-8", "replace")}
