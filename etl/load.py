"""The batch transaction: payload, rows, prices, quarantine, counters and checkpoint are committed together or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from etl.batch import Batch
from etl.errors import Fenced
from etl.lease import TTL, Counts, Run, renew_lease
from etl.position import write_position
from etl.rows import REFUSALS, without_poison, write_rows
from etl.source import Source
from etl.validate import Rejected
from shared.db import Connection, Json, driver_errors_named, fetch_one
from sql import queries


@driver_errors_named()
def load(conn: Connection, source: Source, run: Run, batch: Batch) -> tuple[Run, Counts]:
    """Commit one batch and return the run as it stands after it. Raises Fenced when the lease was taken over.

    A value that only Postgres refuses costs its own record, not the batch: the culprits are found by halves and quarantined.
    """
    try:
        return commit(conn, source, run, batch)
    except REFUSALS:
        cleaned = without_poison(conn, source, run, batch)
        if cleaned is batch:
            raise
        return commit(conn, source, run, cleaned)


@driver_errors_named()
def rehearse(conn: Connection, source: Source, run: Run, batch: Batch) -> tuple[Run, Counts]:
    """Count what a batch would do, and undo it."""
    cleaned = without_poison(conn, source, run, batch)
    with conn.transaction(force_rollback=True):
        conn.execute(queries["bound_batch"])
        inserted, updated = write_rows(conn, source, run, cleaned, raw_id=find_payload(conn, source, batch))
    return run, counts(cleaned, inserted, updated)


def commit(conn: Connection, source: Source, run: Run, batch: Batch) -> tuple[Run, Counts]:
    """The one transaction. The fence comes first and holds its row to the end, so no takeover fits in between."""
    with conn.transaction():
        conn.execute(queries["bound_load"])
        seq = advance(conn, run, batch)
        raw_id = store_payload(conn, source, run, batch)
        inserted, updated = write_rows(conn, source, run, batch, raw_id)
        quarantine(conn, source, run, batch, raw_id)
        done = counts(batch, inserted, updated)
        trace(conn, run, batch, done, seq, raw_id)
        batch.around("before commit")
    batch.around("after commit")
    return replace(run, seq=seq, position=batch.after), done


@driver_errors_named()
def refuse(conn: Connection, source: Source, run: Run, batch: Batch) -> Counts:
    """Keep payload and quarantine of a batch that the breaker stopped, and nothing else: the checkpoint stays where it is."""
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        renew_lease(conn, run)
        quarantine(conn, source, run, batch, store_payload(conn, source, run, batch))
        done = Counts(quarantined=len(batch.validated.rejected))
        conn.execute(queries["count_run"], counted(run, done, batch))
    return done


def advance(conn: Connection, run: Run, batch: Batch) -> int:
    """Fence, move the checkpoint and renew the lease in one statement; a replay leaves the position where it is."""
    params = {"source": run.source, "epoch": run.epoch, "seq": run.seq, "ttl": TTL, "records": 0 if run.replay else batch.size}
    row = fetch_one(conn, queries["advance_checkpoint"], params | {"position": None if run.replay else write_position(batch.after)})
    if not row:
        raise Fenced(f"the lease of {run.source} was taken over: this run writes nothing more")
    return int(row["seq"])


def store_payload(conn: Connection, source: Source, run: Run, batch: Batch) -> int:
    """Keep the payload, once per bytes and meta, and return its id."""
    found = find_payload(conn, source, batch)
    if found:
        return found
    payload = batch.payload
    facts = {"run_id": run.id, "fetched_at": payload.fetched_at, "url": payload.url, "body": payload.body}
    row = fetch_one(conn, queries["store_raw"], payload_key(source, batch) | facts | {"cursor_after": Json(payload.cursor)})
    assert row, "only the holder of the lease stores payloads of a source"
    return int(row["id"])


@driver_errors_named()
def find_payload(conn: Connection, source: Source, batch: Batch) -> int:
    """The id under which a payload is kept, 0 when it is not."""
    return int((fetch_one(conn, queries["find_raw"], payload_key(source, batch)) or {"id": 0})["id"])


def payload_key(source: Source, batch: Batch) -> dict[str, Any]:
    """What makes a payload one payload."""
    return {"source_type": source.type, "source": source.name, "sha256": batch.sha256, "meta": Json(batch.payload.meta)}


def quarantine(conn: Connection, source: Source, run: Run, batch: Batch, raw_id: int) -> None:
    """Keep what was rejected: its bytes as upstream sent them, its place, every reason."""
    rejected = batch.validated.rejected
    if not rejected:
        return
    excerpts = source.excerpts(batch.payload, [bad.position for bad in rejected])
    with conn.cursor() as cursor:
        entries = [entry(run, raw_id, bad, excerpts[bad.position]) for bad in rejected]
        cursor.executemany(queries["quarantine_replayed" if run.replay else "quarantine_record"], entries)


def entry(run: Run, raw_id: int, bad: Rejected, record: bytes) -> dict[str, Any]:
    """One quarantined record as the statement takes it."""
    key = {"source": run.source, "run_id": run.id, "raw_id": raw_id, "position": bad.position}
    told = {"errors": Json(bad.errors), "external_id": bad.external_id}
    return key | told | {"record": record, "fingerprint": hashlib.sha256(record).digest()}


def trace(conn: Connection, run: Run, batch: Batch, done: Counts, seq: int, raw_id: int) -> None:
    """Count the batch on its run and note it in etl_batches."""
    params = counted(run, done, batch)
    conn.execute(queries["count_run"], params)
    place = {"source": run.source, "seq": seq, "raw_id": raw_id, "first": batch.first, "next": batch.first + batch.size}
    conn.execute(queries["insert_batch"], params | place)


def counted(run: Run, done: Counts, batch: Batch) -> dict[str, int]:
    """The counts of a batch as count_run takes them; a payload's bytes count with its first batch."""
    told = {name: getattr(done, name) for name in Counts.__slots__}
    size = len(batch.payload.body) if batch.first == 0 else 0
    return told | {"run_id": run.id, "epoch": run.epoch, "records": done.total, "bytes": size}


def counts(batch: Batch, inserted: int, updated: int) -> Counts:
    """Complete the counts: an accepted record that wrote nothing is unchanged."""
    accepted, rejected = len(batch.validated.accepted), len(batch.validated.rejected)
    return Counts(inserted, updated, accepted - inserted - updated, rejected)
