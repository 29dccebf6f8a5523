"""Quarantined points of a backfill once more: told by their bytes, validated with the code of today, loaded as their chunk would have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from etl.backfill.begin import HISTORIES
from etl.backfill.files import point_view
from etl.backfill.history import view
from etl.backfill.load import Content, fingerprint, quarantine_points, write_points
from etl.batch import Batch
from etl.lease import Counts, Run
from etl.load import advance, counts, trace
from etl.rows import REFUSALS, without_poison
from etl.source import Payload
from etl.validate import Validated, validate
from shared.db import Connection, driver_errors_named
from sql import queries


def content_of(source: str, payload: Payload) -> Content | None:
    """A stored payload as the chunk saw that brought it, None when it holds no history: then it is loaded as a run's."""
    told = payload.meta.get("history")
    if told is None:
        return None
    if "external_id" in told:
        return Content(view(HISTORIES[source], told["external_id"]), payload, True, payload.fetched_at)
    return Content(point_view(source, told["asset"]), payload, True, datetime.fromisoformat(payload.meta["mtime"]))


@driver_errors_named()
def retry_points(
    conn: Connection, run: Run, content: Content, stored: Mapping[str, Any], entries: Mapping[bytes, int]
) -> tuple[Run, Counts]:
    """Load the entries of a payload that pass by now and close them, count up the others. `entries` maps fingerprints to entries.

    Their bytes tell them: with the code of today a point may stand at another place.
    """
    source = content.source
    values = list(source.parse(content.payload))
    places = {
        place: entries[digest]
        for place, record in source.excerpts(content.payload, range(len(values))).items()
        for digest in (fingerprint(content, record), hashlib.sha256(record).digest())
        if digest in entries
    }
    parts = [validate(source, [values[place]], place) for place in sorted(places)]
    checked = Validated([item for part in parts for item in part.accepted], [bad for part in parts for bad in part.rejected])
    lost = set(entries.values()) - set(places.values())
    batch = Batch(content.payload, bytes(stored["sha256"]), 0, len(places), checked, run.position)
    try:
        run, done = commit(conn, run, content, batch, stored["id"], places)
    except REFUSALS:
        cleaned = without_poison(conn, source, run, batch)
        if cleaned is batch:
            raise
        run, done = commit(conn, run, content, cleaned, stored["id"], places)
    for entry in lost:
        conn.execute(queries["mark_retried"], {"id": entry})
    return run, done + Counts(quarantined=len(lost))


def commit(conn: Connection, run: Run, content: Content, batch: Batch, raw_id: int, places: Mapping[int, int]) -> tuple[Run, Counts]:
    """The one transaction, under the lease of the source as every other batch of a run."""
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        seq = advance(conn, run, batch)
        for entry in {places[position] for position, _ in batch.validated.accepted}:
            conn.execute(queries["resolve_record"], {"id": entry})
        done = counts(batch, *write_points(conn, run, content, batch, raw_id))
        quarantine_points(conn, content, run, batch, raw_id)
        trace(conn, run, batch, done, seq, raw_id)
    return replace(run, seq=seq), done
