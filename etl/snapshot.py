"""What a run knows of its upstream's list: how long it is, which assets it brought, and which are missing from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from etl.batch import Batch
from etl.lease import Run, renew_lease
from etl.source import Payload, Source, Unreadable
from shared.db import Connection, driver_errors_named
from sql import queries


@dataclass(slots=True)
class Snapshot:
    """The list as far as this run has seen it; `begun` tells whether from its start. `unnamed` counts what has no id."""

    begun: bool = False
    ids: set[str] = field(default_factory=set)
    unnamed: int = 0

    @property
    def records(self) -> int | None:
        """How long the list is, None unless it was seen from its start: the same id on two pages is one record."""
        return len(self.ids) + self.unnamed if self.begun else None


def begin_payload(snapshot: Snapshot, payload: Payload, start: int) -> None:
    """Note that a payload comes up; one that is gone on with inside tells nothing of what came before."""
    if payload.list_start:
        snapshot.begun, snapshot.unnamed = start == 0, 0
        snapshot.ids.clear()


def add_batch(snapshot: Snapshot, batch: Batch) -> None:
    """Count a committed batch; a rejected record is still one that upstream brought."""
    if not snapshot.begun:
        return
    snapshot.ids.update(row.external_id for _, row in batch.validated.accepted)
    snapshot.ids.update(bad.external_id for bad in batch.validated.rejected if bad.external_id)
    snapshot.unnamed += sum(not bad.external_id for bad in batch.validated.rejected)


def count_with(snapshot: Snapshot, source: Source, values: Sequence[Any]) -> int:
    """How long the list is together with the parsed values of its last payload."""
    found = [None if isinstance(value, Unreadable) else source.identify(value) for value in values]
    return len(snapshot.ids.union(filter(None, found))) + snapshot.unnamed + sum(not name for name in found)


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
