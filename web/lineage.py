"""`GET /data/{id}/lineage`: from a served record to the run that wrote it and the bytes that upstream sent."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from flask import Blueprint, Response
from pydantic import Field

from shared.excerpts import cut_array, cut_elements, cut_rows
from shared.model import RunStatus, SourceType, Trigger
from sql import queries
from web.access import latency_ms, request_id
from web.db import rows
from web.endpoints import Answer, answered, endpoint
from web.errors import Problem
from web.state import state

blueprint = Blueprint("lineage", __name__)


class WriterAnswer(Answer):
    """The run that last wrote the record."""

    id: int
    trigger: Trigger
    status: RunStatus
    started_at: datetime | None
    finished_at: datetime | None
    version: str | None


class PayloadAnswer(Answer):
    """What upstream said in one breath; `pruned_at`: when its bytes were deleted for their age."""

    id: int
    url: str | None
    fetched_at: datetime | None
    sha256: str | None
    pruned_at: datetime | None


class LineageAnswer(Answer):
    """Where a record came from."""

    id: int
    source: str
    source_type: SourceType
    external_id: str
    run: WriterAnswer | None
    payload: PayloadAnswer
    position: int = Field(description="the record's place in the payload, from 0")
    record: str | None = Field(description="the record as upstream sent it, byte for byte")
    record_encoding: Literal["utf-8", "base64"] = Field(description="base64 when the bytes are not UTF-8")
    note: str | None = Field(description="why there is no record")


class LineageEnvelope(Answer):
    """The lineage of a record."""

    request_id: str
    api_latency_ms: float
    data: LineageAnswer


@blueprint.get("/data/<int:number>/lineage")
@endpoint("Show where a record came from", answer=LineageEnvelope, errors=(404,))
def show_lineage(number: int) -> Response:
    """Answer the run, the payload and the record as upstream sent it."""
    found = rows(state().reader, queries["get_lineage"], {"id": number}) if number < 2**63 else []
    if not found:
        raise Problem(404, "no record has this id")
    lineage = trace(found[0])
    return answered(LineageEnvelope(request_id=request_id(), api_latency_ms=latency_ms(), data=lineage))


def trace(row: Mapping[str, Any]) -> LineageAnswer:
    """Put a record's lineage together."""
    record, note = excerpt(row)
    text, encoding = written(record)
    run = {name: row[name] for name in WriterAnswer.model_fields if name != "id"} | {"id": row["run_id"]}
    payload = {name: row[name] for name in PayloadAnswer.model_fields if name != "id"} | {"id": row["raw_id"]}
    return LineageAnswer.model_validate(
        {
            **{name: row[name] for name in ("id", "source", "source_type", "external_id")},
            "run": run if row["run_id"] else None,
            "payload": payload,
            "position": row["raw_position"],
            "record": text,
            "record_encoding": encoding,
            "note": note,
        }
    )


def excerpt(row: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
    """Cut the record out of its payload; when it cannot be told for sure which bytes are its, say why."""
    if row["body"] is None:
        told = "the payload was deleted for its age" if row["pruned_at"] else "the payload is not kept"
        return None, told
    body, position = bytes(row["body"]), row["raw_position"]
    try:
        if row["source_type"] == "csv":
            return cut_rows(body, row["meta"], [position])[position], None
        if row["source_type"] == "api":
            return cut_array(body, [position])[position], None
        elements = cut_elements(body)
        if len(elements) == row["records"]:
            return elements[position], None
    except (ValueError, LookupError, RecursionError):
        pass
    return None, "the record's bytes cannot be told from the rest: the whole payload is in the raw table under this id"


def written(record: bytes | None) -> tuple[str | None, str]:
    """Bytes as text, in base64 when they are not UTF-8."""
    if record is None:
        return None, "utf-8"
    try:
        return record.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(record).decode(), "base64"
