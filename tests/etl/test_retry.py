"""A retry of the quarantine: of entries with gaps between, and behind another session's lock, where it waits as a run does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from etl import locks, retry
from etl.errors import Blocked
from etl.lease import Counts, renew_lease
from etl.retry import retry_all
from etl.stop import Stop
from shared.db import Connection, connect
from sql import queries

LOCKS = ("unified_data in share mode", "unified_data in access exclusive mode", "quarantined_records in share mode")


@pytest.fixture
def entries(world: Any, coins: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten records in quarantine of which three are valid by now; a lock is waited for in steps of a moment."""
    world.bodies = [coins(10)]
    world.conn.execute("alter table unified_data add constraint no_coin check (external_id is null)")
    assert world.run().counts == Counts(quarantined=10)
    world.conn.execute("alter table unified_data drop constraint no_coin")
    world.conn.execute("alter table unified_data add constraint three_coins check (external_id in ('c0001', 'c0002', 'c0007'))")
    for name, long in (("bound_batch", b"'10s'"), ("bound_load", b"'4s'")):
        assert long in queries[name]
        monkeypatch.setitem(queries, name, queries[name].replace(long, b"'50ms'"))


@pytest.fixture
def locker(dsn: str) -> Iterator[Connection]:
    with connect(dsn, "locker") as conn:
        conn.autocommit = False
        yield conn


def test_entries_of_one_payload_with_gaps_between_them_are_loaded_together(world: Any, coins: Callable[..., Any]) -> None:
    world.environ = {"ETL_MAX_INVALID_RATIO": "1"}
    world.bodies = [coins(8)]
    world.conn.execute("alter table unified_data add constraint even check (right(external_id, 1)::int % 2 = 0)")
    assert world.run().counts == Counts(inserted=4, quarantined=4)
    world.conn.execute("alter table unified_data drop constraint even")
    assert retry_all(world.conn, world.source, Stop(), ()) == Counts(inserted=4)
    assert world.rows("select count(*), count(distinct raw_position) as places from unified_data") == [(8, 8)]
    assert world.rows("select count(*) from quarantined_records where resolved_at is null") == [(0,)]


@pytest.mark.parametrize("lock", LOCKS)
def test_it_goes_on_once_the_lock_is_gone(
    world: Any, entries: None, locker: Connection, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    renewed = list[int]()

    def renew(conn: Connection, run: Any) -> None:
        renew_lease(conn, run)
        renewed.append(run.seq)
        if len(renewed) == 3:
            locker.rollback()

    monkeypatch.setattr(retry, "renew_lease", renew)
    locker.execute(f"lock table {lock}".encode())
    with capture_logs() as logged:
        assert retry_all(world.conn, world.source, Stop(), ()) == Counts(inserted=3, quarantined=7)
    assert (renewed, [line["event"] for line in logged].count("lock awaited")) == ([1, 1, 1], 1)
    assert world.rows("select external_id from unified_data order by 1") == [("c0001",), ("c0002",), ("c0007",)]
    assert world.rows("select attempts, count(*) from quarantined_records where resolved_at is null group by 1") == [(2, 7)]
    assert world.rows("select status, records_extracted from etl_runs order by id") == [("partial", 10), ("partial", 10)]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_stays_fails_it_and_leaves_the_entries(
    world: Any, entries: None, locker: Connection, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setattr(locks, "LONGEST", 0.2)
    locker.execute(f"lock table {lock}".encode())
    with pytest.raises(Blocked, match=r"not gone after 0\.2 s"):
        retry_all(world.conn, world.source, Stop(), ())
    locker.rollback()
    assert world.rows("select status from etl_runs order by id") == [("partial",), ("failed",)]
    assert world.rows("select attempts, count(*) from quarantined_records where resolved_at is null group by 1") == [(1, 10)]
    assert retry_all(world.conn, world.source, Stop(), ()) == Counts(inserted=3, quarantined=7)
