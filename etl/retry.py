"""Quarantined records once more: parsed from their stored payloads, validated with the code of today, loaded in a normal batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import structlog

from etl.backfill.retry import content_of, retry_points
from etl.batch import Batch
from etl.drift.aliases import aliased
from etl.errors import Stopped
from etl.lease import Counts, Run, begin_run, finish_run, renew_lease
from etl.load import load
from etl.locks import behind_locks
from etl.rows import without_poison
from etl.source import Payload, Source
from etl.stop import Stop, check
from etl.validate import validate
from shared.db import Connection, driver_errors_named, fetch_one
from shared.model import RunStatus
from sql import queries

log = structlog.get_logger()

MOST = 100_000


@driver_errors_named()
def retry_all(conn: Connection, source: Source, stop: Stop, ids: Sequence[int]) -> Counts:
    """Retry the open entries of a source, or those with the given ids, under its lease. Returns what was loaded and what stays.

    The checkpoint's position does not move. Raises Locked when a run holds the source, Blocked behind a lock that stays, Stopped.
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
            retried = partial(retry_payload, conn, source, run, raw_id, list(rows))
            run, done = behind_locks(retried, partial(renew_lease, conn, run), stop)
            counts += done
        status = "partial" if counts.quarantined else "success"
    except Stopped:
        status = "cancelled"
        raise
    finally:
        finish_run(conn, run, status)
    return counts


@driver_errors_named()
def retry_payload(conn: Connection, source: Source, run: Run, raw_id: int, entries: Sequence[dict[str, Any]]) -> tuple[Run, Counts]:
    """Validate the entries of one payload; load those that pass and close them, count up those that do not."""
    row = fetch_one(conn, queries["get_retry"], {"source": source.name, "raw_id": raw_id})
    if not row:
        log.warning("payload gone", raw_id=raw_id, entries=len(entries), hint="it was pruned: the entries keep the records")
        return run, Counts()
    payload = Payload(bytes(row["body"]), row["url"], run.position.cursor, row["fetched_at"], row["meta"])
    if content := content_of(source.name, payload):
        return retry_points(conn, run, content, row, {bytes(entry["fingerprint"]): entry["id"] for entry in entries})
    return retry_records(conn, source, run, payload, bytes(row["sha256"]), {entry["raw_position"]: entry["id"] for entry in entries})


def retry_records(
    conn: Connection, source: Source, run: Run, payload: Payload, digest: bytes, wanted: Mapping[int | None, int]
) -> tuple[Run, Counts]:
    """Retry records that a run loads. `wanted` maps positions to entries; None stands for the whole payload.

    That one is loaded only when not all of it is invalid again.
    """
    whole = wanted.get(None)
    values = [(position, value) for position, value in enumerate(source.parse(payload)) if whole or position in wanted]
    batches = [
        without_poison(conn, source, run, Batch(payload, digest, first, len(part), validate(source, part, first), run.position))
        for first, part in neighbours(values)
    ]
    accepted = [position for batch in batches for position, _ in batch.validated.accepted]
    if whole and not accepted:
        conn.execute(queries["mark_retried"], {"id": whole})
        return run, Counts(quarantined=len(values))
    counts = Counts()
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        for number in [wanted[position] for position in accepted if position in wanted] + ([whole] if whole else []):
            conn.execute(queries["resolve_record"], {"id": number})
        for batch in batches:
            run, done = load(conn, source, run, batch)
            if batch.validated.accepted:
                conn.execute(queries["end_staging"])
            counts += done
    return run, counts


def neighbours(values: Sequence[tuple[int, Any]]) -> list[tuple[int, list[Any]]]:
    """Cut values at the gaps between their positions: each part has its first position, so a batch says where its records stand."""
    groups = groupby(enumerate(values), key=lambda one: one[1][0] - one[0])
    parts = [[value for _, value in group] for _, group in groups]
    return [(part[0][0], [value for _, value in part]) for part in parts]
