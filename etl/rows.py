"""The records of a batch in their tables, and which of them Postgres refuses."""

from __future__ import annotations

from dataclasses import replace

import psycopg

from etl.batch import Batch
from etl.lease import Run
from etl.source import Source
from etl.validate import Rejected, Validated
from shared.db import Connection, fetch_one, one_line
from sql import queries

REFUSALS = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, UnicodeEncodeError)
"""What the driver or Postgres says of a value it cannot take: NUL, lone surrogate, overflow, CHECK, a key too long."""


def write_rows(conn: Connection, source: Source, run: Run, batch: Batch, raw_id: int) -> tuple[int, int]:
    """Stage the accepted rows by COPY, then write what is new or changed. Returns how many were inserted and updated."""
    if not batch.validated.accepted:
        return 0, 0
    conn.execute(queries["create_staging"])
    with conn.cursor() as cursor, cursor.copy(queries["stage_records"]) as copy:
        copy.write(batch.lines)
    params = {"source": source.name, "source_type": source.type, "run_id": run.id, "raw_id": raw_id, "replay": run.replay}
    params |= {"fetched_at": batch.payload.fetched_at}
    months = fetch_one(conn, queries["ensure_price_months"], params)
    if months and months["low"]:
        conn.execute(queries["upsert_replayed_prices" if run.replay else "upsert_price_history"], params | months)
    if run.replay:
        conn.execute(queries["forget_outdated"], params)
    row = fetch_one(conn, queries["upsert_unified"], params)
    assert row
    for closing in ("resolve_replayed",) if run.replay else ("resolve_arrived", "resolve_payload"):
        conn.execute(queries[closing], params)
    return int(row["inserted"]), int(row["updated"])


def without_poison(conn: Connection, source: Source, run: Run, batch: Batch) -> Batch:
    """Move the records that Postgres refuses from accepted to rejected. Returns the batch itself when there is none."""
    poison = find_poison(conn, source, run, batch)
    if not poison:
        return batch
    accepted = [item for item in batch.validated.accepted if item[0] not in poison]
    rejected = sorted([*batch.validated.rejected, *poison.values()], key=lambda bad: bad.position)
    return replace(batch, validated=Validated(accepted, rejected))


def find_poison(conn: Connection, source: Source, run: Run, batch: Batch) -> dict[int, Rejected]:
    """Try the rows, then halves of what was refused, each in a transaction that is undone, down to the single culprits."""
    accepted = batch.validated.accepted
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(queries["bound_batch"])
            write_rows(conn, source, run, batch, raw_id=0)
        return {}
    except REFUSALS as refused:
        if len(accepted) == 1:
            position = accepted[0][0]
            field = getattr(getattr(refused, "diag", None), "column_name", None) or ""
            return {position: Rejected(position, ({"field": field, "reason": f"refused by Postgres: {one_line(refused)}"},))}
    half = len(accepted) // 2
    parts = (replace(batch, validated=Validated(part, [])) for part in (accepted[:half], accepted[half:]))
    return {position: bad for part in parts for position, bad in find_poison(conn, source, run, part).items()}
