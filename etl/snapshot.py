"""What a run knows of its upstream's list: how long it is, which assets it brought, and which are missing from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from etl.lease import Run, renew_lease
from etl.load import Batch
from etl.source import Payload
from shared.db import Connection, driver_errors_named
from sql import queries


@dataclass(slots=True)
class Snapshot:
    """The list as far as this run has seen it from its start; `records` is None while it has not."""

    records: int | None = None
    ids: set[str] = field(default_factory=set)


def begin_payload(snapshot: Snapshot, payload: Payload, start: int) -> None:
    """Note that a payload comes up; one that is gone on with inside tells nothing of what came before."""
    if payload.list_start:
        snapshot.records = 0 if start == 0 else None
        snapshot.ids.clear()


def add_batch(snapshot: Snapshot, batch: Batch) -> None:
    """Count a committed batch; a rejected record is still one that upstream brought."""
    if snapshot.records is None:
        return
    snapshot.records += batch.size
    snapshot.ids.update(row.external_id for _, row in batch.validated.accepted)
    snapshot.ids.update(bad.external_id for bad in batch.validated.rejected if bad.external_id)


@driver_errors_named()
def mark_absent(conn: Connection, run: Run, snapshot: Snapshot) -> None:
    """Count the assets that a whole list did not bring; after three such lists and a day they are inactive. Raises Fenced."""
    params = {"source": run.source, "ids": sorted(snapshot.ids)}
    with conn.transaction():
        conn.execute(queries["bound_batch"])
        renew_lease(conn, run)
        conn.execute(queries["forget_absences"], params)
        conn.execute(queries["count_absences"], params)
        conn.execute(queries["mark_inactive"], params)
