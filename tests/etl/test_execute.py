"""Lost connections: memory is forgotten, the lease taken again, the position read again; nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from etl import execute
from etl.batch import Batch
from etl.errors import Fenced
from etl.lease import Counts, begin_run, finish_run
from etl.stop import Stop, on_signals
from shared.db import connect
from shared.errors import DatabaseError

Coins = Callable[..., list[dict[str, Any]]]
SERVED = "select external_id, name, price_usd, raw_position from unified_data order by external_id"
KILL = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'world' and datname = current_database()"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "RETRY", 0.01)


def at_commit(world: Any, monkeypatch: pytest.MonkeyPatch, edge: str, number: int, act: Callable[[], None]) -> None:
    """Do something at one edge of the n-th commit."""
    batch, seen = Batch, [0]

    def around(point: str) -> None:
        seen[0] += point == edge
        if point == edge and seen[0] == number:
            act()

    monkeypatch.setattr("etl.batches.Batch", lambda *told: replace(batch(*told[:6]), around=around))


@pytest.mark.parametrize("edge", ["before commit", "after commit"])
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_connection_cut_at_a_commit_neither_loses_nor_doubles(
    world: Any, coins: Coins, monkeypatch: pytest.MonkeyPatch, edge: str, number: int
) -> None:
    world.bodies, world.batch_size = [coins(25), coins(25, first=20, price=7)], 10
    at_commit(world, monkeypatch, edge, number, lambda: world.rows(KILL))
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("success", Counts(inserted=45, updated=5))
    assert world.rows("select count(*), sum(next_position - first_position)::int as n from etl_batches") == [(6, 50)]
    assert world.rows("select status, records_extracted, epoch from etl_runs") == [("success", 50, 2)]


@pytest.mark.parametrize("edge", ["before commit", "after commit"])
def test_a_reply_to_commit_that_is_lost_is_neither_retried_nor_trusted(
    world: Any, coins: Coins, monkeypatch: pytest.MonkeyPatch, edge: str
) -> None:
    def lose() -> None:
        raise DatabaseError("the reply was lost", passing=True)

    world.bodies, world.batch_size = [coins(25)], 10
    at_commit(world, monkeypatch, edge, 2, lose)
    assert world.run().counts == Counts(inserted=25)
    assert world.rows("select count(*) from etl_batches") == [(3,)]


def test_a_full_refresh_that_is_cut_before_its_first_commit_stays_one(world: Any, coins: Coins, monkeypatch: pytest.MonkeyPatch) -> None:
    world.bodies = [coins(5)]
    world.run()
    at_commit(world, monkeypatch, "before commit", 1, lambda: world.rows(KILL))
    assert world.run(full_refresh=True).counts == Counts(unchanged=5)


def test_a_run_that_was_taken_over_while_it_was_cut_off_ends_fenced(
    world: Any, coins: Coins, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_over() -> None:
        world.rows(KILL)
        with connect(dsn, "other") as other:
            other.execute("update etl_checkpoints set lease_expires_at = clock_timestamp() - interval '1 second'")
            finish_run(other, begin_run(other, "test", "cli"), "success")

    world.bodies, world.batch_size = [coins(20)], 10
    at_commit(world, monkeypatch, "after commit", 1, take_over)
    outcome = world.run()
    assert isinstance(outcome.error, Fenced)
    assert world.rows("select status, records_extracted from etl_runs order by id") == [("abandoned", 10), ("success", 0)]


def test_a_database_that_gives_up_for_good_fails_the_run_with_the_resume_command(
    world: Any, coins: Coins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up() -> None:
        raise DatabaseError("could not extend file", passing=False)

    world.bodies, world.batch_size = [coins(20)], 10
    at_commit(world, monkeypatch, "before commit", 2, give_up)
    with pytest.raises(DatabaseError, match="could not extend file"):
        world.run()
    assert world.rows("select status, records_extracted from etl_runs") == [("failed", 10)]


def test_a_batch_that_the_database_gives_up_on_again_and_again_ends_the_run(
    world: Any, coins: Coins, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def time_out(*_: Any) -> Any:
        tries.append(1)
        raise DatabaseError("canceling statement due to statement timeout", passing=True)

    world.bodies = [coins(5)]
    monkeypatch.setattr("etl.pipeline.load", time_out)
    with pytest.raises(DatabaseError, match="statement timeout"):
        world.run()
    assert len(tries) == execute.TRIES + 1


def test_runs_under_chaos_end_equal_to_one_clean_run(world: Any, coins: Coins) -> None:
    world.bodies, world.batch_size = [coins(60), coins(60, first=30, price=7), [*coins(20, first=100), {"id": 7}]], 10
    assert world.run().status == "partial"
    clean = world.rows(SERVED), world.rows("select count(*) from price_history")
    world.conn.execute("truncate unified_data, raw_payloads, price_history, quarantined_records")
    world.again()
    world.environ = {"CHAOS_MODE": "true", "CHAOS_SEED": "11"}
    statuses = [world.run().status]
    while statuses[-1] == "failed":
        statuses.append(world.run().status)
    assert len(statuses) >= 3
    assert (world.rows(SERVED), world.rows("select count(*) from price_history")) == clean
    assert {row[0] for row in world.rows("select error_type from etl_runs where status = 'failed'")} == {"ChaosFault"}


def test_the_same_seed_and_run_strike_at_the_same_points(world: Any, coins: Coins) -> None:
    def faults() -> list[tuple[Any, ...]]:
        world.conn.execute("truncate etl_runs restart identity cascade")
        world.conn.execute("truncate unified_data, raw_payloads, price_history, etl_batches")
        world.environ = {"CHAOS_MODE": "true", "CHAOS_SEED": "5"}
        while world.run().status == "failed":
            pass
        found: list[tuple[Any, ...]] = world.rows("select id, status, records_extracted, error_message from etl_runs order by id")
        return found

    world.bodies, world.batch_size = [coins(60)], 5
    assert faults() == faults()


def test_a_batch_that_takes_too_long_after_a_request_to_stop_is_undone(world: Any, coins: Coins) -> None:
    world.bodies = [coins(3)]
    world.conn.execute("create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(20); return new; end'")
    world.conn.execute("create trigger slow before insert on unified_data for each row execute function slow()")
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"

    def ask() -> None:
        while world.rows(asleep) != [(1,)]:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    with on_signals(grace=0.1) as world.stop:
        asker = threading.Thread(target=ask)
        asker.start()
        outcome = world.run()
        asker.join()
    assert (outcome.status, outcome.counts) == ("cancelled", Counts())
    assert world.rows("select status, lease_expires_at from etl_runs, etl_checkpoints") == [("cancelled", None)]
    world.conn.execute("drop trigger slow on unified_data")
    world.stop = Stop()
    assert world.run().counts == Counts(inserted=3)
