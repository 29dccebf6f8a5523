"""A run's life in the database: take the lease of a source, go on from its position, close the run, give the lease back."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from etl.errors import Fenced, Locked
from etl.source import Cursor, Payload
from shared.db import Connection, Json, driver_errors_named, fetch_one
from shared.model import RunStatus, Trigger
from sql import queries

TTL = 60.0
"""Seconds a lease lasts without a sign of life."""

HEARTBEAT = 15.0
"""Seconds between signs of life while an upstream is waited for."""


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


@dataclass(frozen=True, slots=True)
class Run:
    """A run that holds the lease of its source. `epoch` and `seq` are its proof: without both, nothing is written."""

    id: int
    source: str
    epoch: int
    seq: int
    position: Position
    resumed_from: int | None = None


@driver_errors_named()
def begin_run(conn: Connection, source: str, trigger: Trigger) -> Run:
    """Take the lease of a source and open a run; a run that a dead holder left open is closed as abandoned first.

    Raises Locked when another run holds the source.
    """
    holder = f"{socket.gethostname()} pid {os.getpid()}"
    with conn.transaction():
        conn.execute(queries["ensure_checkpoint"], {"source": source})
        taken = fetch_one(conn, queries["acquire_lease"], {"source": source, "holder": holder, "backend_pid": backend(conn), "ttl": TTL})
        if not taken:
            raise Locked(locked_message(conn, source))
        abandoned = conn.execute(queries["abandon_run"], {"source": source}).fetchall()
        position = read_position(taken["position"])
        resumed_from = taken["previous_run_id"] if abandoned or position.pending else None
        facts = {"source": source, "trigger": trigger, "epoch": taken["epoch"], "resumed_from": resumed_from}
        host = {"host": socket.gethostname(), "pid": os.getpid(), "version": version("kasparro-etl")}
        opened = fetch_one(conn, queries["begin_run"], facts | host)
        assert opened
        conn.execute(queries["hold_lease"], {"source": source, "run_id": opened["id"], "epoch": taken["epoch"]})
    return Run(opened["id"], source, taken["epoch"], taken["seq"], position, resumed_from)


def backend(conn: Connection) -> int | None:
    """The server process behind this connection, or None when a pooler may give us another one for each transaction."""
    row = fetch_one(conn, queries["get_backend"])
    return row["pid"] if row and row["pid"] == conn.info.backend_pid else None


def locked_message(conn: Connection, source: str) -> str:
    """Say who holds a source and what can be done."""
    lease = fetch_one(conn, queries["get_lease"], {"source": source}) or {}
    left = max(0, round(lease.get("seconds_left") or 0))
    return (
        f"run {lease.get('run_id')} ({lease.get('holder')}) holds {source}, its lease ends in {left} s: try later, or pass --if-locked=wait"
    )


@driver_errors_named()
def renew_lease(conn: Connection, run: Run) -> None:
    """Show that the run is alive while it waits. Raises Fenced when the lease was taken over."""
    if not fetch_one(conn, queries["renew_lease"], {"source": run.source, "epoch": run.epoch, "ttl": TTL}):
        raise Fenced(f"the lease of {run.source} was taken over: this run writes nothing more")


@driver_errors_named()
def finish_run(conn: Connection, run: Run, status: RunStatus, error_type: str | None = None, error_message: str | None = None) -> None:
    """Close the run and release the lease, together; a run that was taken over is left as the new holder closed it."""
    params = {"run_id": run.id, "epoch": run.epoch, "source": run.source}
    with conn.transaction():
        conn.execute(queries["finish_run"], params | {"status": status, "error_type": error_type, "error_message": error_message})
        conn.execute(queries["release_lease"], params)


@driver_errors_named()
def get_position(conn: Connection, source: str) -> Position:
    """Read where a source stands without taking its lease."""
    row = fetch_one(conn, queries["get_position"], {"source": source})
    return read_position(row["position"] if row else {})


@driver_errors_named()
def get_pending(conn: Connection, source_type: str, source: str, pending: Pending) -> Payload | None:
    """Fetch the stored payload to go on inside it, or None when it is no longer kept."""
    params = {"source_type": source_type, "source": source, "sha256": bytes.fromhex(pending.sha256)}
    row = fetch_one(conn, queries["get_raw"], params)
    if not row:
        return None
    return Payload(row["body"], pending.url, pending.cursor, datetime.fromisoformat(pending.fetched_at), pending.meta)


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
