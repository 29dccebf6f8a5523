"""The transaction of a chunk: payload, points or assets, quarantine, counters and the mark that it is done, together or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from etl.backfill.store import FENCED, Chunk, mark_chunk, require_worker
from etl.batch import Batch, silent, staged
from etl.errors import Fenced, Refused
from etl.lease import Counts, Run
from etl.load import counted, counts, entry, quarantine, store_payload
from etl.position import Position
from etl.rows import REFUSALS, without_poison, write_rows
from etl.source import Payload, Source
from etl.validate import validate
from shared.db import Connection, driver_errors_named, fetch_one
from sql import queries


@dataclass(frozen=True, slots=True)
class Content:
    """What a chunk brought. `points`: history alone, as it was known at `told_at`; else assets, as a run loads them."""

    source: Source
    payload: Payload
    points: bool
    told_at: datetime


def validated(content: Content, around: Callable[[str], None] = silent) -> Batch:
    """Parse and validate a chunk."""
    values = list(content.source.parse(content.payload))
    checked = validate(content.source, values, 0)
    digest = hashlib.sha256(content.payload.body).digest()
    return Batch(content.payload, digest, 0, len(values), checked, Position({}), around)


@driver_errors_named()
def load_chunk(conn: Connection, run: Run, chunk: Chunk, content: Content, batch: Batch) -> Counts:
    """Commit a chunk. Raises Fenced when it was taken over. A value that only Postgres refuses costs its own record."""
    try:
        return commit(conn, run, chunk, content, batch)
    except REFUSALS:
        cleaned = without_poison(conn, content.source, run, batch)
        if cleaned is batch:
            raise
        return commit(conn, run, chunk, content, cleaned)


def commit(conn: Connection, run: Run, chunk: Chunk, content: Content, batch: Batch) -> Counts:
    """The one transaction. The fence comes first and holds its row to the end, so no takeover fits in between."""
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        require_worker(conn, run)
        raw_id = store_payload(conn, content.source, run, batch)
        write = write_points if content.points else write_assets
        done = counts(batch, *write(conn, run, content, batch, raw_id))
        keep_rejected(conn, content, run, batch, raw_id)
        count(conn, run, done, batch)
        mark_chunk(conn, run, chunk, "done", done.total)
        batch.around("before commit")
    batch.around("after commit")
    return done


@driver_errors_named()
def refuse_chunk(conn: Connection, run: Run, chunk: Chunk, content: Content, batch: Batch, refused: Refused) -> Counts:
    """Keep payload and quarantine of a chunk that the breaker stopped, and nothing else."""
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        require_worker(conn, run)
        keep_rejected(conn, content, run, batch, store_payload(conn, content.source, run, batch))
        done = Counts(quarantined=len(batch.validated.rejected))
        count(conn, run, done, batch)
        mark_chunk(conn, run, chunk, "failed", 0, str(refused))
    return done


def count(conn: Connection, run: Run, done: Counts, batch: Batch) -> None:
    """Add a chunk to the counters of the run. Raises Fenced when the run was closed."""
    if conn.execute(queries["count_run"], counted(run, done, batch)).rowcount != 1:
        raise Fenced(FENCED)


def keep_rejected(conn: Connection, content: Content, run: Run, batch: Batch, raw_id: int) -> None:
    """Keep what was rejected: its bytes as upstream sent them, its place, every reason."""
    if content.points:
        quarantine_points(conn, content, run, batch, raw_id)
    else:
        quarantine(conn, content.source, run, batch, raw_id)


def quarantine_points(conn: Connection, content: Content, run: Run, batch: Batch, raw_id: int) -> None:
    """Keep rejected points, which are told from those of other assets with the same bytes."""
    rejected = batch.validated.rejected
    if not rejected:
        return
    excerpts = content.source.excerpts(content.payload, [bad.position for bad in rejected])
    entries = [
        entry(run, raw_id, bad, excerpts[bad.position]) | {"fingerprint": fingerprint(content, excerpts[bad.position])} for bad in rejected
    ]
    with conn.cursor() as cursor:
        cursor.executemany(queries["quarantine_replayed" if run.replay else "quarantine_record"], entries)


def fingerprint(content: Content, record: bytes) -> bytes:
    """What makes a rejected point one entry: its bytes, and its asset where they do not name it."""
    told = content.payload.meta["history"]
    asset = told.get("external_id") or told.get("asset") or ""
    return hashlib.sha256(asset.encode() + b"\0" + record).digest()


def write_assets(conn: Connection, run: Run, content: Content, batch: Batch, raw_id: int) -> tuple[int, int]:
    """Write assets as a run does. Returns how many were inserted and updated."""
    return write_rows(conn, content.source, run, batch, raw_id)


def write_points(conn: Connection, run: Run, content: Content, batch: Batch, raw_id: int) -> tuple[int, int]:
    """Stage points by COPY, then write those that are new, or known later than what is there. Returns how many of both."""
    if not batch.validated.accepted:
        return 0, 0
    conn.execute(queries["create_staging"])
    with conn.cursor() as cursor, cursor.copy(queries["stage_records"]) as copy:
        copy.write(staged(batch.validated.accepted))
    params = {"source": content.source.name, "run_id": run.id, "told_at": content.told_at, "fetched_at": content.told_at}
    months = fetch_one(conn, queries["ensure_price_months"], params) or {}
    row = fetch_one(conn, queries["upsert_points"], params | months)
    assert row
    return int(row["inserted"]), int(row["updated"])
