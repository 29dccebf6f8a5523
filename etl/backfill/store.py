"""Backfills in the database: store what was asked, work on it as one of several processes, claim chunks, and close what the dead left."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from etl.backfill.ranges import spare_calls
from etl.errors import Fenced
from etl.lease import TTL, Run, backend
from etl.position import Position
from shared.db import Connection, Json, driver_errors_named, fetch_one
from shared.model import RateLimit
from sql import queries

FENCED = "this process was taken for dead and its chunk given to another: it writes nothing more, run the same command again"
SHORTEST_WAIT = 0.1
COLUMNS = ("external_ids", "starts", "ends", "byte_froms", "byte_tos", "lines", "digests")


@dataclass(frozen=True, slots=True)
class Stored:
    """A backfill as it is stored; `joined`: somebody asked for the same before."""

    id: int
    created_at: datetime
    joined: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that this process holds, under the epoch that proves it: a window of an asset, or a block of a file."""

    backfill_id: int
    number: int
    epoch: int
    external_id: str
    starts_at: datetime
    ends_at: datetime
    byte_from: int
    byte_to: int
    line: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Tally:
    """How many chunks of some backfills are in which state."""

    total: int = 0
    done: int = 0
    failed: int = 0
    not_allowed: int = 0
    open: int = 0


def digest_of(request: Mapping[str, Any]) -> str:
    """What makes two requests the same."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


@driver_errors_named()
def find_backfill(conn: Connection, request: Mapping[str, Any]) -> Stored | None:
    """The stored backfill of a request."""
    row = fetch_one(conn, queries["find_backfill"], {"digest": digest_of(request)})
    return Stored(row["id"], row["created_at"], joined=True) if row else None


@driver_errors_named()
def join_backfill(
    conn: Connection, source: str, request: Mapping[str, Any], plan: Callable[[], Sequence[tuple[Any, ...]]], *, in_order: bool = False
) -> Stored:
    """Store a backfill with its chunks, or find the stored one. Of two processes at once, one stores."""
    if found := find_backfill(conn, request):
        return found
    chunks = plan()
    facts = {"source": source, "digest": digest_of(request), "request": Json(request), "in_order": in_order, "chunks": len(chunks)}
    with conn.transaction():
        row = fetch_one(conn, queries["begin_backfill"], facts)
        if row:
            columns = dict(zip(COLUMNS, map(list, zip(*chunks, strict=True)), strict=True)) if chunks else {name: [] for name in COLUMNS}
            params = {"backfill_id": row["id"], "numbers": list(range(1, len(chunks) + 1)), **columns}
            conn.execute(queries["insert_chunks"], params)
            return Stored(row["id"], row["created_at"], joined=False)
    found = find_backfill(conn, request)
    assert found
    return found


@driver_errors_named()
def open_worker(conn: Connection, source: str) -> Run:
    """Open the run of this process; those of dead ones are closed first."""
    abandon_workers(conn)
    host = {"host": socket.gethostname(), "pid": os.getpid(), "version": version("kasparro-etl")}
    with conn.transaction():
        opened = fetch_one(conn, queries["begin_run"], {"source": source, "trigger": "backfill", "epoch": 0, "resumed_from": None, **host})
        assert opened
        worker = {"run_id": opened["id"], "holder": f"{host['host']} pid {host['pid']}", "backend_pid": backend(conn), "ttl": TTL}
        conn.execute(queries["insert_worker"], worker)
    return Run(opened["id"], source, 0, 0, Position({}))


@driver_errors_named()
def abandon_workers(conn: Connection) -> list[int]:
    """Close the runs of dead processes and free their chunks. Returns the runs."""
    conn.execute(queries["end_sleepers"])
    return [row["id"] for row in conn.execute(queries["abandon_workers"]).fetchall()]


@driver_errors_named()
def take_chunk(conn: Connection, run: Run, backfills: Sequence[int]) -> Chunk | None:
    """Claim the next chunk, None when none is free now. Raises Fenced."""
    with conn.transaction():
        require_worker(conn, run)
        row = fetch_one(conn, queries["take_chunk"], {"run_id": run.id, "backfills": list(backfills)})
    return Chunk(**row) if row else None


def require_worker(conn: Connection, run: Run) -> None:
    """Fence a write, and give a sign of life. Raises Fenced when this process was taken for dead."""
    if not fetch_one(conn, queries["renew_worker"], {"run_id": run.id, "ttl": TTL}):
        raise Fenced(FENCED)


@driver_errors_named()
def renew_worker(conn: Connection, run: Run) -> None:
    """Give a sign of life. Raises Fenced."""
    require_worker(conn, run)


@driver_errors_named()
def retake_worker(conn: Connection, run: Run) -> None:
    """Go on after a lost connection: what was in hand is claimed again, because nobody knows whether it was committed. Raises Fenced."""
    with conn.transaction():
        if not fetch_one(conn, queries["retake_worker"], {"run_id": run.id, "backend_pid": backend(conn), "ttl": TTL}):
            raise Fenced(FENCED)
        conn.execute(queries["release_chunks"], {"run_id": run.id})


@driver_errors_named()
def end_chunk(conn: Connection, run: Run, chunk: Chunk, state: str, error: str, *, asset: bool = False, before: bool = False) -> None:
    """Note that a chunk was not loaded, and with it what still waits of its asset, or of the time up to its end. Raises Fenced."""
    others = {"external_id": chunk.external_id if asset else None, "ends_at": chunk.ends_at if before else None}
    with conn.transaction():
        require_worker(conn, run)
        mark_chunk(conn, run, chunk, state, 0, error)
        if asset or before:
            told = {"backfill_id": chunk.backfill_id, "state": state, "error": error, "run_id": run.id}
            conn.execute(queries["mark_others"], told | others)


def mark_chunk(conn: Connection, run: Run, chunk: Chunk, state: str, records: int, error: str | None = None) -> None:
    """End a chunk within a transaction. Raises Fenced when it is no longer ours."""
    key = {"backfill_id": chunk.backfill_id, "number": chunk.number, "epoch": chunk.epoch, "run_id": run.id}
    if not fetch_one(conn, queries["mark_chunk"], key | {"state": state, "records": records, "error": error}):
        raise Fenced(FENCED)


@driver_errors_named()
def close_worker(conn: Connection, run: Run, status: str, error_type: str | None, error_message: str | None) -> None:
    """Close the run of this process and give its chunks back."""
    told = {"run_id": run.id, "epoch": 0, "status": status, "error_type": error_type, "error_message": error_message}
    with conn.transaction():
        if fetch_one(conn, queries["renew_worker"], {"run_id": run.id, "ttl": TTL}):
            conn.execute(queries["release_chunks"], told)
            conn.execute(queries["finish_run"], told | {"snapshot_records": None})
            conn.execute(queries["forget_worker"], told)


@driver_errors_named()
def reopen_chunks(conn: Connection, backfills: Sequence[int], *, everything: bool) -> None:
    """Try failed chunks again, with `everything` also those that the plan did not allow."""
    conn.execute(queries["mark_waiting"], {"backfills": list(backfills), "all": everything})


@driver_errors_named()
def get_tally(conn: Connection, backfills: Sequence[int]) -> Tally:
    """How far some backfills are."""
    row = fetch_one(conn, queries["count_chunks"], {"backfills": list(backfills)})
    return Tally(**row) if row else Tally()


@driver_errors_named()
def list_errors(conn: Connection, backfills: Sequence[int]) -> list[dict[str, Any]]:
    """Why chunks were not loaded: state, error, chunks, an asset."""
    return conn.execute(queries["list_chunk_errors"], {"backfills": list(backfills)}).fetchall()


@driver_errors_named()
def list_top_assets(conn: Connection, source: str, limit: int | None) -> list[str]:
    """The assets of a source by rank."""
    return [row["external_id"] for row in conn.execute(queries["list_top_assets"], {"source": source, "limit": limit}).fetchall()]


@driver_errors_named()
def take_spare_call(conn: Connection, source: str, limit: RateLimit) -> float:
    """Take a call from what runs leave of the budget: 0 when it may go out now, else the seconds until it is worth asking again."""
    params = {"source": source, "limit": limit.calls, "seconds": limit.seconds, "spare": spare_calls(limit)}
    if fetch_one(conn, queries["take_spare_call"], params):
        return 0.0
    row = fetch_one(conn, queries["get_spare_wait"], params)
    return max(float(row["wait"]) if row else 0.0, SHORTEST_WAIT)
