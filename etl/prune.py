"""Pruning: old raw payloads and old months of price history go in small transactions, so that nobody waits for long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from etl.stop import Stop, check, wait
from shared.db import Connection, LockTimeout, driver_errors_named, fetch_one
from shared.errors import DatabaseError
from sql import queries

AT_ONCE = 500
"""Payloads a transaction deletes at the most."""
TRIES, RETRY = 30, 2.0
"""How often a month is tried that is in use, and seconds between two tries."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many payloads of a source, and their bytes as stored."""

    source: str
    payloads: int
    bytes: int


@driver_errors_named()
def list_prunable(conn: Connection, age: float) -> list[Pruned]:
    """What is older than `age` seconds and needed by nothing."""
    return [Pruned(row["source"], row["payloads"], row["bytes"]) for row in conn.execute(queries["list_prunable"], {"age": age}).fetchall()]


@driver_errors_named()
def prune(conn: Connection, source: str, age: float, stop: Stop) -> Iterator[Pruned]:
    """Delete what `list_prunable` tells of one source, part by part. Raises Stopped between two parts."""
    while True:
        check(stop)
        with conn.transaction():
            conn.execute(queries["bound_batch"])
            conn.execute(queries["lock_source"], {"source": source})
            row = fetch_one(conn, queries["forget_raw"], {"source": source, "age": age, "limit": AT_ONCE})
        if not row or not row["payloads"]:
            return
        yield Pruned(source, row["payloads"], row["bytes"])


@dataclass(frozen=True, slots=True)
class Month:
    """A month of price history: its table, bytes, about how many points if that is known, whether this role may drop it, and its end."""

    name: str
    bytes: int
    points: int | None
    ours: bool
    ends_at: datetime

    @property
    def words(self) -> str:
        """The month as people write it."""
        return "before 2009" if self.name.endswith("early") else self.name.removeprefix("price_history_").replace("_", "-")


@driver_errors_named()
def list_old_prices(conn: Connection, age: float) -> list[Month]:
    """The months of price history that ended more than `age` seconds ago, oldest first."""
    return [Month(**row) for row in conn.execute(queries["list_old_prices"], {"age": age}).fetchall()]


@driver_errors_named()
def settle_prices(conn: Connection, age: float) -> None:
    """Move points that old into their months, where they lie beside them."""
    if (fetch_one(conn, queries["has_unsettled_prices"], {"age": age}) or {}).get("unsettled"):
        conn.execute(queries["forget_unsettled"])


@driver_errors_named()
def drop_prices(conn: Connection, months: list[Month], stop: Stop) -> Iterator[Month]:
    """Drop months, a transaction each; one that is in use is tried again. Raises Stopped, and DatabaseError when it stays in use."""
    if not all(month.ours for month in months):
        raise DatabaseError("only the owner of the tables drops months: set DATABASE_URL to the address that `kasparro-etl migrate` gets")
    for month in months:
        check(stop)
        drop_month(conn, month, stop)
        yield month


def drop_month(conn: Connection, month: Month, stop: Stop) -> None:
    """Drop one month as soon as nobody reads or writes price history for a moment."""
    for _ in range(TRIES):
        try:
            with conn.transaction():
                conn.execute(queries["bound_drop"])
                conn.execute(queries["forget_prices"], {"ends_at": month.ends_at})
            return
        except LockTimeout:
            wait(stop, RETRY)
    raise DatabaseError(f"price history was in use all the time, {month.words} is still there: run the same command again")
