"""A run's life in the database: take the lease of a source, go on from its position, close the run, give the lease back."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any

from etl.errors import Fenced, Locked
from etl.position import Pending, Position, read_position
from etl.source import Payload
from shared.db import Connection, LockTimeout, driver_errors_named, fetch_one
from shared.errors import DatabaseError
from shared.model import RunStatus, Trigger
from sql import queries

TTL = 60.0
"""Seconds a lease lasts without a sign of life."""

HEARTBEAT = 15.0
"""Seconds between signs of life while an upstream is waited for."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a batch or a run did with its records."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))

    @property
    def total(self) -> int:
        """Every record that was looked at."""
        return self.inserted + self.updated + self.unchanged + self.quarantined


@dataclass(frozen=True, slots=True)
class Run:
    """A run that holds the lease of its source. `epoch` and `seq` are its proof: without both, nothing is written.

    `records` counts what it had committed when the lease was taken, `resumed_from` is the run it continues.
    `replay`: it loads what was stored before, so it leaves the position alone and never puts an older state over a newer.
    """

    id: int
    source: str
    epoch: int
    seq: int
    position: Position
    resumed_from: int | None = None
    records: int = 0
    replay: bool = False


ATTEMPTS = 10
"""Tries of one queued request, when its worker dies every time."""


@driver_errors_named()
def begin_run(conn: Connection, source: str, trigger: Trigger, *, queued: bool = False) -> Run:
    """Take the lease of a source and open a run; a run that a dead holder left open is closed as abandoned first.

    With `queued` the run is one that waits in the queue. Raises Locked when another run holds the source, or nothing waits.
    """
    with suppress(LockTimeout):
        return open_run(conn, source, trigger, queued)
    conn.execute(queries["end_sleeper"], {"source": source})
    try:
        return open_run(conn, source, trigger, queued)
    except LockTimeout:
        told = f"another run is in the middle of a batch of {source}, or was stopped there, or a session holds a lock on the tables of runs"
        raise Locked(f"{told}: try later") from None


def open_run(conn: Connection, source: str, trigger: Trigger, queued: bool) -> Run:
    """The one transaction that takes the lease and opens the run. A holder that sleeps inside a batch is not waited for long."""
    holder = f"{socket.gethostname()} pid {os.getpid()}"
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        conn.execute(queries["ensure_checkpoint"], {"source": source})
        taken = fetch_one(conn, queries["acquire_lease"], {"source": source, "holder": holder, "backend_pid": backend(conn), "ttl": TTL})
        if not taken:
            raise Locked(locked_message(conn, source))
        abandoned = conn.execute(queries["abandon_run"], {"source": source}).fetchall()
        position = read_position(taken["position"])
        resumed_from = taken["previous_run_id"] if abandoned or position.pending else None
        facts = {"source": source, "trigger": trigger, "epoch": taken["epoch"], "resumed_from": resumed_from}
        facts |= {"host": socket.gethostname(), "pid": os.getpid(), "version": version("kasparro-etl")}
        opened = take_queued(conn, facts) if queued else fetch_one(conn, queries["begin_run"], facts)
        assert opened
        conn.execute(queries["hold_lease"], {"source": source, "run_id": opened["id"], "epoch": taken["epoch"]})
    return Run(opened["id"], source, taken["epoch"], taken["seq"], position, opened["resumed_from"], replay=trigger == "replay")


def take_queued(conn: Connection, facts: dict[str, Any]) -> dict[str, Any]:
    """Open the run of a request: first of the one that a worker left unfinished, then of the oldest that waits. Raises Locked."""
    again = fetch_one(conn, queries["begin_again"], facts | {"attempts": ATTEMPTS})
    opened = again or fetch_one(conn, queries["begin_queued"], facts)
    if not opened:
        raise Locked(f"another worker took what was queued for {facts['source']}")
    return opened


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
def retake_run(conn: Connection, run: Run) -> Run:
    """Go on after a lost connection: forget what memory holds, take the lease under a new epoch, read the position again.

    A reply to COMMIT that was lost so neither loses nor doubles its batch. Raises Fenced when another run took over.
    """
    params = {"source": run.source, "epoch": run.epoch, "run_id": run.id, "backend_pid": backend(conn), "ttl": TTL}
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        taken = fetch_one(conn, queries["retake_lease"], params)
        going = fetch_one(conn, queries["retake_run"], {"run_id": run.id, "epoch": taken["epoch"]}) if taken else None
        if not taken or not going:
            raise Fenced(f"the lease of {run.source} was taken over: this run writes nothing more")
    position, records = read_position(taken["position"]), going["records_extracted"]
    return replace(run, epoch=taken["epoch"], seq=taken["seq"], position=position, records=records)


@driver_errors_named()
def renew_lease(conn: Connection, run: Run) -> None:
    """Show that the run is alive while it waits. Raises Fenced when the lease was taken over."""
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        kept = fetch_one(conn, queries["renew_lease"], {"source": run.source, "epoch": run.epoch, "ttl": TTL})
    if not kept:
        raise Fenced(f"the lease of {run.source} was taken over: this run writes nothing more")


@driver_errors_named()
def finish_run(conn: Connection, run: Run, status: RunStatus, **told: str | int | None) -> None:
    """Close the run and release the lease, together; `told` is error_type, error_message, snapshot_records.

    A run that was taken over is left as the new holder closed it. Repeating it after a lost reply does no harm.
    """
    params = {"run_id": run.id, "epoch": run.epoch, "source": run.source, "status": status}
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        conn.execute(queries["release_lease"], params)  # first, as who takes a lease over does: in another order they could deadlock
        conn.execute(queries["finish_run"], {"error_type": None, "error_message": None, "snapshot_records": None} | told | params)


@driver_errors_named()
def is_abandoned(conn: Connection, run: Run) -> bool:
    """Whether another run took over and closed this one."""
    row = fetch_one(conn, queries["get_run"], {"run_id": run.id})
    return bool(row and row["status"] == "abandoned")


@driver_errors_named()
def get_counts(conn: Connection, run: Run) -> Counts:
    """What the run has committed, as its row says: the only count that survives a lost reply."""
    row = fetch_one(conn, queries["get_run"], {"run_id": run.id})
    if not row:
        raise DatabaseError(f"run {run.id} is gone, somebody replaced the database: run the same command again")
    return Counts(row["records_inserted"], row["records_updated"], row["records_unchanged"], row["records_quarantined"])


@driver_errors_named()
def get_usual_snapshot(conn: Connection, source: str) -> int | None:
    """How long the upstream's list usually is: the median of recent runs that saw it whole, None before the first."""
    row = fetch_one(conn, queries["get_usual_snapshot"], {"source": source})
    return row["records"] if row else None


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
