"""A payload set aside as a whole: kept byte for byte, one entry in quarantine, none of its records loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from etl.batch import Batch
from etl.lease import Counts, Run, renew_lease
from etl.load import advance, counted, find_payload, store_payload, trace
from etl.source import Source
from shared.db import Connection, Json, driver_errors_named, fetch_one
from sql import queries

SHOWN = 2000
"""Bytes of the payload that the entry shows; all of them are in the raw table."""


@driver_errors_named()
def set_aside(
    conn: Connection, source: Source, run: Run, batch: Batch, drifts: Sequence[int], reason: str, *, move: bool
) -> tuple[Run, Counts]:
    """Keep a payload with one entry and count its records as quarantined; `move` the checkpoint past it or leave it. Raises Fenced.

    A payload that was left and is asked for again is one entry for the same drifts; one that was passed is an entry of its own.
    """
    done = Counts(quarantined=batch.size)
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        seq = advance(conn, run, batch) if move else run.seq
        if not move:
            renew_lease(conn, run)
        raw_id = store_payload(conn, source, run, batch)
        cause = b"payload:" + (batch.sha256 if move else repr(sorted(drifts)).encode())
        told = {"errors": Json([{"field": "", "reason": reason}]), "external_id": None, "position": None}
        entry = {"record": batch.payload.body[:SHOWN], "fingerprint": hashlib.sha256(cause).digest()}
        conn.execute(queries["quarantine_record"], {"source": run.source, "run_id": run.id, "raw_id": raw_id} | told | entry)
        if move:
            trace(conn, run, batch, done, seq, raw_id)
        else:
            conn.execute(queries["count_run"], counted(run, done, batch))
    return (replace(run, seq=seq, position=batch.after) if move else run), done


@driver_errors_named()
def pass_by(conn: Connection, source: Source, run: Run, batch: Batch) -> Counts:
    """Count a payload that a replay finds no better than it was: its own entry is seen again, no other is made. Raises Fenced."""
    done = Counts(quarantined=batch.size)
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        renew_lease(conn, run)
        conn.execute(queries["mark_passed"], {"source": run.source, "raw_id": find_payload(conn, source, batch)})
        conn.execute(queries["count_run"], counted(run, done, batch))
    return done


@driver_errors_named()
def count_known_invalid(conn: Connection, source: str, raw_id: int) -> int:
    """Count the records of a stored payload that runs quarantined when they loaded it."""
    row = fetch_one(conn, queries["count_known_invalid"], {"source": source, "raw_id": raw_id})
    return int(row["invalid"]) if row else 0
