"""Verification: what is served against what the stored payloads say, both as of one moment; nothing of it stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from etl.batch import staged
from etl.drift.aliases import aliased
from etl.replay import Selection, count_pruned, list_stored, read_stored
from etl.rows import REFUSALS
from etl.source import Payload, Row, Source
from etl.stop import Stop, check
from etl.validate import validate
from shared.db import Connection, driver_errors_named, fetch_one, one_moment
from shared.errors import DatabaseError
from sql import queries

SIZE = 5000
"""Records that are written at once."""


@dataclass(frozen=True, slots=True)
class Verified:
    """How a source compares: rows, and differences as (external_id, observed_at, difference, field, served, replayed).

    `unverified` rows were read from payloads that are pruned or were not asked for.
    """

    source: str
    payloads: int
    pruned: int
    compared: int
    unverified: int
    differences: list[dict[str, Any]] = field(default_factory=list)

    def rows(self, difference: str, *, prices: bool = False) -> int:
        """Count the rows that differ in one way."""
        found = [row for row in self.differences if row["difference"] == difference and (row["observed_at"] is not None) == prices]
        return len({(row["external_id"], row["observed_at"]) for row in found})

    @property
    def missing(self) -> int:
        """Rows that a payload tells and nobody serves."""
        return self.rows("missing")

    @property
    def extra(self) -> int:
        """Rows that are served and in no payload they were read from."""
        return self.rows("extra")

    @property
    def changed(self) -> int:
        """Rows of which some field differs."""
        return self.rows("changed")

    @property
    def equal(self) -> int:
        """Rows of which no field differs."""
        return self.compared - self.changed

    @property
    def prices_missing(self) -> int:
        """Prices that a payload tells and history does not have."""
        return self.rows("missing", prices=True)

    @property
    def prices_changed(self) -> int:
        """Prices that history has otherwise."""
        return self.rows("changed", prices=True)

    @property
    def different(self) -> bool:
        """Whether anything differs."""
        return bool(self.differences)


@driver_errors_named()
def verify(conn: Connection, source: Source, wanted: Selection, stop: Stop) -> Verified:
    """Load what runs have taken into scratch tables and compare. Takes no lease: it sees one moment. Raises Stopped, DatabaseError."""
    with one_moment(conn):
        conn.execute(queries["bound_scratch"])
        chosen = [stored for stored in list_stored(conn, source, wanted) if stored.loaded and not stored.aside]
        pruned = count_pruned(conn, source)
        for name in ("create_served", "create_served_prices", "create_scratch", "create_scratch_prices"):
            conn.execute(queries[name])
        row = fetch_one(conn, queries["has_scratch"])
        if not row or not row["scratch"]:
            raise DatabaseError("the search path puts temporary tables last, so nothing can be verified: take pg_temp out of it")
        code = aliased(conn, source)
        params: dict[str, Any] = {"source": source.name, "source_type": source.type, "chosen": [stored.id for stored in chosen]}
        params |= {"whole": wanted.whole, "pruned": pruned > 0}
        found = {stored.id: stored for stored in chosen}
        for told in conn.execute(queries["list_loads"], params).fetchall():
            payload = read_stored(conn, source, found[told["raw_id"]])
            if payload is None:
                continue
            for part in parts(code, payload, told["first"], told["next"]):
                check(stop)
                write(conn, code, facts(code, payload, told), part)
        counts = fetch_one(conn, queries["count_verified"], params)
        differences = [
            row for name in ("list_differences", "list_price_differences") for row in conn.execute(queries[name], params).fetchall()
        ]
        assert counts
        return Verified(source.name, len(chosen), pruned, counts["compared"], counts["unverified"], differences)


def parts(source: Source, payload: Payload, first: int, behind: int) -> Iterator[list[tuple[int, Row]]]:
    """The records of a load, validated, as positions and rows; a part without any valid one is left out."""
    values = islice(source.parse(payload), first, behind)
    while part := list(islice(values, SIZE)):
        if accepted := validate(source, part, first).accepted:
            yield accepted
        first += len(part)


def facts(source: Source, payload: Payload, load: dict[str, Any]) -> dict[str, Any]:
    """What the statements of a run are told of a load. Of one that came back, the end of the load stands for when upstream said it."""
    came_back = load["came_back"]
    told = {"source": source.name, "source_type": source.type, "raw_id": load["raw_id"], "replay": False}
    return told | {"run_id": load["run_id"] if came_back else 0, "fetched_at": load["loaded_at"] if came_back else payload.fetched_at}


def write(conn: Connection, source: Source, params: dict[str, Any], accepted: Sequence[tuple[int, Row]]) -> None:
    """Write rows as a run would, but to the scratch tables; what only Postgres refuses is left out, as a run quarantines it."""
    try:
        with conn.transaction():
            conn.execute(queries["create_staging"])
            with conn.cursor() as cursor, cursor.copy(queries["stage_records"]) as copy:
                copy.write(staged(accepted))
            times = fetch_one(conn, queries["get_staged_times"], params)
            if times and times["low"]:
                conn.execute(queries["upsert_price_history"], params | times)
            conn.execute(queries["upsert_unified"], params)
            conn.execute(queries["end_staging"])
    except REFUSALS:
        half = len(accepted) // 2
        for part in (accepted[:half], accepted[half:]) if half else ():
            write(conn, source, params, part)
