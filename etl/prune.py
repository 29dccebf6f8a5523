"""Pruning: old raw payloads go in small transactions, so that no run waits for long; what is known of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etl.stop import Stop, check
from shared.db import Connection, driver_errors_named, fetch_one
from sql import queries

AT_ONCE = 500
"""Payloads a transaction deletes at the most."""


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
