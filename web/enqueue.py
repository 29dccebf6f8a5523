"""The one statement of the API that writes: it queues runs, in a read-write transaction on a connection of its own. Knows no HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal

import psycopg

from shared.errors import DatabaseError, KasparroError, SchemaError
from sql import queries
from web.db import CONNECTING, PATIENCE, UNMIGRATED, connect_within


@dataclass(frozen=True, slots=True)
class Queued:
    """A run that was asked for: `outcome` says whether it was queued now, joined, or the answer to an earlier request."""

    id: int
    source: str
    status: str
    requested_at: datetime
    outcome: Literal["queued", "joined", "replayed"]


class Mismatch(KasparroError):
    """An Idempotency-Key came back with another request."""


def enqueue(dsn: str, sources: Sequence[str], key: str | None) -> list[Queued]:
    """Queue a run of each source, or join the one that is queued; with a key that was used before, return what was queued then.

    Raises Mismatch when the key was used for other sources, DatabaseError when the database cannot be written to, SchemaError.
    """
    request = sha256("\n".join(sources).encode()).digest()
    params = {"sources": list(sources), "key_digest": key and sha256(key.encode()).digest(), "request_digest": request}
    until = time.monotonic() + PATIENCE
    try:
        with closing(connect_within(dsn, CONNECTING)) as conn:
            conn.until = until
            conn.read_only, conn.isolation_level = False, psycopg.IsolationLevel.READ_COMMITTED
            with conn.transaction():
                rows = conn.execute(queries["enqueue_runs"], params).fetchall()
    except UNMIGRATED as missing:
        raise SchemaError("the schema is not the one this version writes: run `kasparro-etl migrate`") from missing
    except (psycopg.Error, TimeoutError) as error:
        raise DatabaseError(f"nothing could be queued ({type(error).__name__}): see docs/trigger.md for what the role needs") from error
    if [row["outcome"] for row in rows] == ["mismatch"]:
        raise Mismatch("this Idempotency-Key was used for another request: choose a new one")
    return [Queued(**row) for row in rows]
