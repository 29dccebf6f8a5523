"""Two writers of the same keys in opposite order: the statements sort what they write, so they wait for each other and never deadlock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from etl.batch import Batch
from etl.lease import Run, begin_run
from etl.position import Position
from etl.rows import write_rows
from etl.source import Payload, Row, Source
from etl.validate import Validated
from shared.db import Connection, connect
from sql import queries

KEYS, ROUNDS = 1500, 6
SORTED = b"order by external_id\n    on conflict"


def batch_of(turn: int, order: Callable[[list[int]], Any]) -> Batch:
    """A batch of all keys in some order, priced and dated so that every turn changes every row."""
    keys = list(range(KEYS))
    order(keys)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [Row("asset", f"c{key:04}", None, "Coin", "test", str(turn + 2), None, None, None, None, None, None, None) for key in keys]
    payload = Payload(b"", "test:0", {}, now, {})
    return Batch(payload, b"", 0, KEYS, Validated(list(enumerate(rows)), []), Position({}))


def deadlocks(dsn: str, source: Source, run: Run) -> int:
    """Write the keys from two connections at once, one forwards and one backwards, in many rounds; how many were victims."""
    start, victims = threading.Barrier(2), list[Exception]()

    def write(conn: Connection, order: Callable[[list[int]], Any], first: int) -> None:
        for turn in range(ROUNDS):
            batch = batch_of(2 * turn + first, order)
            start.wait(60)
            try:
                with conn.transaction():
                    write_rows(conn, source, run, batch, 0)
            except psycopg.errors.DeadlockDetected as victim:
                victims.append(victim)

    with connect(dsn, "forwards") as forwards, connect(dsn, "backwards") as backwards:
        for conn in (forwards, backwards):
            conn.execute("set deadlock_timeout = '20ms'")
        threads = [
            threading.Thread(target=write, args=(forwards, lambda keys: keys.sort(), 0)),
            threading.Thread(target=write, args=(backwards, lambda keys: keys.reverse(), 1)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return len(victims)


@pytest.fixture
def writing(world: Any) -> Callable[[str], int]:
    """Load every key once, then let two writers at them."""

    def write(dsn: str) -> int:
        run = begin_run(world.conn, "test", "cli")
        with world.conn.transaction():
            write_rows(world.conn, world.source, run, batch_of(-1, lambda keys: keys.sort()), 0)
        return deadlocks(dsn, world.source, run)

    return write


def test_two_writers_of_the_same_keys_in_opposite_order_never_deadlock(writing: Callable[[str], int], world: Any, dsn: str) -> None:
    assert writing(dsn) == 0
    assert world.rows("select count(*) as n, count(distinct price_usd) as prices from unified_data") == [(KEYS, 1)]


def test_writers_that_do_not_sort_their_keys_do_deadlock_here(
    writing: Callable[[str], int], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unified = queries["upsert_unified"].replace(SORTED, b"order by position\n    on conflict")
    prices = queries["upsert_price_history"].replace(b"order by s.external_id, s.observed_at", b"order by random()")
    assert b"order by position\n    on conflict" in unified
    assert b"order by random()" in prices
    monkeypatch.setitem(queries, "upsert_unified", unified)
    monkeypatch.setitem(queries, "upsert_price_history", prices)
    assert writing(dsn) > 0
