"""Quarantined records once more: parsed from their stored payloads, validated with the code of today, loaded in a normal batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from etl.errors import Stopped
from etl.lease import Counts, Run, begin_run, finish_run
from etl.load import Batch, load
from etl.source import Payload, Source
from etl.stop import Stop, check
from etl.validate import Validated, validate
from shared.db import Connection, driver_errors_named
from shared.model import RunStatus
from sql import queries

MOST = 100_000


@driver_errors_named()
def retry_all(conn: Connection, source: Source, stop: Stop, ids: Sequence[int]) -> Counts:
    """Retry the open entries of a source, or those with the given ids, under its lease. Returns what was loaded and what stays.

    The checkpoint's position does not move. Raises Locked when a run holds the source, Stopped between two payloads.
    """
    params = {"source": source.name, "source_type": source.type, "ids": list(ids) or None, "limit": MOST}
    entries = conn.execute(queries["list_retries"], params).fetchall()
    counts = Counts()
    if not entries:
        return counts
    run = begin_run(conn, source.name, "cli")
    status: RunStatus = "failed"
    try:
        for _, rows in groupby(entries, key=lambda row: row["raw_id"]):
            check(stop)
            run, done = retry_payload(conn, source, run, list(rows))
            counts += done
        status = "partial" if counts.quarantined else "success"
    except Stopped:
        status = "cancelled"
        raise
    finally:
        finish_run(conn, run, status)
    return counts


def retry_payload(conn: Connection, source: Source, run: Run, rows: list[dict[str, Any]]) -> tuple[Run, Counts]:
    """Validate the entries of one payload; load those that pass and close them, count up those that do not."""
    first = rows[0]
    payload = Payload(bytes(first["body"]), first["url"], run.position.cursor, first["fetched_at"], first["meta"])
    wanted = {row["raw_position"]: row["id"] for row in rows}
    values = {position: value for position, value in enumerate(source.parse(payload)) if position in wanted}
    parts = [validate(source, [value], position) for position, value in values.items()]
    validated = Validated([item for part in parts for item in part.accepted], [bad for part in parts for bad in part.rejected])
    batch = Batch(payload, bytes(first["sha256"]), 0, len(values), validated, run.position)
    with conn.transaction():
        for position, _ in validated.accepted:
            conn.execute(queries["resolve_record"], {"id": wanted[position]})
        return load(conn, source, run, batch)
