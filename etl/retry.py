"""Quarantined records once more: parsed from their stored payloads, validated with the code of today, loaded in a normal batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import structlog

from etl.drift.aliases import aliased
from etl.errors import Stopped
from etl.lease import Counts, Run, begin_run, finish_run
from etl.load import Batch, load
from etl.source import Payload, Source
from etl.stop import Stop, check
from etl.validate import Validated, validate
from shared.db import Connection, driver_errors_named, fetch_one
from shared.model import RunStatus
from sql import queries

log = structlog.get_logger()

MOST = 100_000


@driver_errors_named()
def retry_all(conn: Connection, source: Source, stop: Stop, ids: Sequence[int]) -> Counts:
    """Retry the open entries of a source, or those with the given ids, under its lease. Returns what was loaded and what stays.

    The checkpoint's position does not move. Raises Locked when a run holds the source, Stopped between two payloads.
    """
    params = {"source": source.name, "ids": list(ids) or None, "limit": MOST}
    if not fetch_one(conn, queries["list_retries"], params):
        return Counts()
    run = begin_run(conn, source.name, "replay")
    counts = Counts()
    status: RunStatus = "failed"
    try:
        source = aliased(conn, source)
        # Read under the lease: a run that has just ended may have resolved some, and its newer rows must not be overwritten.
        entries = conn.execute(queries["list_retries"], params).fetchall()
        for raw_id, rows in groupby(entries, key=lambda row: row["raw_id"]):
            check(stop)
            run, done = retry_payload(conn, source, run, raw_id, {row["raw_position"]: row["id"] for row in rows})
            counts += done
        status = "partial" if counts.quarantined else "success"
    except Stopped:
        status = "cancelled"
        raise
    finally:
        finish_run(conn, run, status)
    return counts


def retry_payload(conn: Connection, source: Source, run: Run, raw_id: int, wanted: dict[int | None, int]) -> tuple[Run, Counts]:
    """Validate the entries of one payload; load those that pass and close them, count up those that do not.

    `wanted` maps positions to entries; None stands for the whole payload, which is loaded only when not all of it is invalid again.
    """
    row = fetch_one(conn, queries["get_payload"], {"source_type": source.type, "raw_id": raw_id})
    if not row:
        log.warning("payload gone", raw_id=raw_id, entries=len(wanted), hint="it was pruned: the entries keep the records")
        return run, Counts()
    payload = Payload(bytes(row["body"]), row["url"], run.position.cursor, row["fetched_at"], row["meta"])
    whole = wanted.get(None)
    values = [(position, value) for position, value in enumerate(source.parse(payload)) if whole or position in wanted]
    parts = [validate(source, [value], position) for position, value in values]
    validated = Validated([item for part in parts for item in part.accepted], [bad for part in parts for bad in part.rejected])
    if whole and not validated.accepted:
        conn.execute(queries["mark_retried"], {"id": whole})
        return run, Counts(quarantined=len(values))
    batch = Batch(payload, bytes(row["sha256"]), 0, len(values), validated, run.position)
    loaded = [wanted[position] for position, _ in validated.accepted if position in wanted] + ([whole] if whole else [])
    with conn.transaction():
        for number in loaded:
            conn.execute(queries["resolve_record"], {"id": number})
        return load(conn, source, run, batch)
