"""Where a source stands, as its checkpoint holds it: the source's own cursor, and the payload in hand if a run ended inside one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etl.source import Cursor, Payload
from shared.db import Json


@dataclass(frozen=True, slots=True)
class Pending:
    """A payload that is stored but not loaded to its end: `next` is the position of the first record to load."""

    sha256: str
    next: int
    url: str
    meta: Mapping[str, Any]
    cursor: Cursor
    fetched_at: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where a source stands: its own cursor, and the payload in hand if a run ended inside one."""

    cursor: Cursor
    pending: Pending | None = None


def pending(payload: Payload, sha256: str, following: int) -> Pending:
    """The mark of a payload that is not loaded to its end."""
    return Pending(sha256, following, payload.url, payload.meta, payload.cursor, payload.fetched_at.isoformat())


def read_position(stored: Mapping[str, Any]) -> Position:
    """Read a position as the checkpoint holds it; an empty one means: from the start."""
    pending = stored.get("pending")
    return Position(stored.get("cursor") or {}, Pending(**pending) if pending else None)


def write_position(position: Position) -> Json:
    """Write a position as the checkpoint holds it."""
    waiting = position.pending
    if waiting is None:
        return Json({"cursor": position.cursor})
    return Json({"cursor": position.cursor, "pending": {name: getattr(waiting, name) for name in Pending.__slots__}})
