"""The loop: order, resumption, interruption, and what a run row says of each."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from etl.errors import Fenced, Locked, SourceError
from etl.lease import Counts, begin_run, finish_run, renew_lease
from shared.db import connect
from sql import queries

Coins = Callable[..., list[dict[str, Any]]]
SERVED = "select external_id, name, price_usd, raw_position from unified_data order by external_id"


def test_batches_are_committed_one_by_one_with_their_checkpoint(world: Any, coins: Coins) -> None:
    world.bodies, world.batch_size = [coins(25), coins(5, first=25)], 10
    assert world.run().counts == Counts(inserted=30)
    assert [progress.counts.inserted for progress in world.seen] == [10, 20, 25, 30]
    assert world.rows("select seq, first_position, next_position from etl_batches order by seq") == [
        (1, 0, 10),
        (2, 10, 20),
        (3, 20, 25),
        (4, 0, 5),
    ]


def test_a_payload_without_records_still_moves_the_checkpoint(world: Any) -> None:
    world.bodies = [[]]
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("success", Counts())
    assert world.rows("select position from etl_checkpoints") == [({"cursor": {"next": 1}},)]
    assert world.rows("select count(*) from raw_api_data") == [(1,)]


def test_a_second_run_extracts_from_the_cursor(world: Any, coins: Coins) -> None:
    world.bodies = [coins(2)]
    world.run()
    world.bodies.append(coins(2, first=2))
    assert world.run().counts == Counts(inserted=2)
    assert world.cursors == [{}, {"next": 1}]


def test_full_refresh_reads_everything_again(world: Any, coins: Coins) -> None:
    world.bodies = [coins(2)]
    world.run()
    assert world.run(full_refresh=True).counts == Counts(unchanged=2)
    assert world.cursors == [{}, {}]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 24, 25])
def test_exactly_n_records_are_committed_when_a_failure_is_injected(world: Any, coins: Coins, count: int) -> None:
    world.bodies, world.batch_size, world.environ = [coins(25)], 10, {"ETL_FAIL_AFTER_N_RECORDS": str(count)}
    failed = world.run()
    assert (failed.status, failed.counts) == ("failed", Counts(inserted=count))
    assert world.rows("select status, records_extracted, records_inserted, error_type from etl_runs") == [
        ("failed", count, count, "FailureInjected")
    ]
    world.environ, world.bodies = {}, [[{"id": "upstream says something else by now"}]]
    resumed = world.run()
    assert resumed.counts == Counts(inserted=25 - count)
    assert world.rows("select resumed_from from etl_runs order by id")[1] == ((1 if count < 25 else None,))
    assert world.rows("select count(distinct external_id) from unified_data") == [(25,)]


def test_a_failure_after_no_record_writes_nothing(world: Any, coins: Coins) -> None:
    world.bodies, world.environ = [coins(5)], {"ETL_FAIL_AFTER_N_RECORDS": "0"}
    assert world.run().status == "failed"
    assert world.rows("select count(*) from raw_api_data") == [(0,)]


def test_a_limit_stops_inside_the_payload_and_the_next_run_goes_on_there(world: Any, coins: Coins) -> None:
    world.bodies, world.batch_size = [coins(25)], 10
    assert (world.run(limit=12).status, world.rows("select count(*) from unified_data")) == ("success", [(12,)])
    outcome = world.run()
    assert (outcome.counts, outcome.resumed_at) == (Counts(inserted=13), "record 13 of test:0")


def test_a_run_that_failed_between_payloads_loads_the_rest_next_time(world: Any, coins: Coins) -> None:
    world.bodies = [coins(3), SourceError("upstream is down"), coins(3, first=3)]
    failed = world.run()
    assert (failed.status, failed.counts) == ("failed", Counts(inserted=3))
    assert world.rows("select status, error_type, error_message from etl_runs") == [("failed", "SourceError", "upstream is down")]
    world.bodies[1] = []
    assert world.run().counts == Counts(inserted=3)


def test_a_bug_is_recorded_and_marked_as_one(world: Any, coins: Coins) -> None:
    world.bodies = [coins(3), ZeroDivisionError("division by zero")]
    outcome = world.run()
    assert (outcome.status, outcome.bug, outcome.counts) == ("failed", True, Counts(inserted=3))
    assert world.rows("select status, error_type from etl_runs") == [("failed", "ZeroDivisionError")]


def test_a_payload_that_is_no_list_is_not_kept(world: Any) -> None:
    world.bodies = [b"<html>"]
    assert world.run().status == "failed"
    assert world.rows("select (select count(*) from raw_api_data), (select position from etl_checkpoints)") == [(0, {})]


def test_interrupted_runs_end_equal_to_one_clean_run(world: Any, coins: Coins) -> None:
    bodies = [coins(23), coins(17, first=10, price=9), [{"id": 7}, *coins(3, first=40)]]
    world.bodies, world.batch_size = bodies, 5
    while (outcome := world.run(limit=3)).counts != Counts():
        assert outcome.status in ("success", "partial")
    interrupted = world.rows(SERVED)
    world.conn.execute("truncate unified_data, raw_payloads, price_history, quarantined_records")
    world.again()
    assert world.run().status == "partial"
    assert world.rows(SERVED) == interrupted


def test_a_dry_run_counts_and_writes_nothing(world: Any, coins: Coins) -> None:
    world.bodies = [coins(10)]
    world.run()
    before = (
        world.rows("select id, status from etl_runs"),
        world.rows(SERVED),
        world.rows("select position, seq, epoch from etl_checkpoints"),
    )
    world.bodies.append([*coins(5), *coins(2, price=7), *coins(2, first=50), {"id": 7}, {"id": "\x00"}])
    outcome = world.run(dry_run=True)
    assert (outcome.run_id, outcome.counts) == (None, Counts(inserted=2, updated=2, unchanged=5, quarantined=2))
    assert before == (
        world.rows("select id, status from etl_runs"),
        world.rows(SERVED),
        world.rows("select position, seq, epoch from etl_checkpoints"),
    )
    assert world.rows("select count(*) from quarantined_records") == [(0,)]


def test_a_held_source_is_locked_for_another_run(world: Any, dsn: str) -> None:
    with connect(dsn, "other") as other:
        held = begin_run(other, "test", "cli")
        outcome = world.run()
        assert isinstance(outcome.error, Locked)
        assert f"run {held.id}" in str(outcome.error)
        assert world.rows("select count(*) from etl_runs") == [(1,)]
        finish_run(other, held, "success")
    assert world.run().status == "success"


def test_a_source_whose_holder_is_gone_is_taken_over_at_once(world: Any, dsn: str, coins: Coins) -> None:
    with connect(dsn, "dies") as dying:
        begin_run(dying, "test", "cli")
    world.bodies = [coins(1)]
    while world.rows("select count(*) from pg_stat_activity where application_name = 'dies'") != [(0,)]:
        pass
    assert world.run().status == "success"
    assert world.rows("select status, resumed_from, finished_at is not null from etl_runs order by id") == [
        ("abandoned", None, True),
        ("success", 1, True),
    ]


def test_a_run_that_was_taken_over_writes_nothing_more(world: Any, dsn: str, coins: Coins) -> None:
    world.bodies, world.batch_size = [coins(20)], 10

    def take_over(_progress: Any) -> None:
        with connect(dsn, "other") as other:
            other.execute("update etl_checkpoints set lease_expires_at = clock_timestamp() - interval '1 second'")
            finish_run(other, begin_run(other, "test", "cli"), "success")

    world.seen = type("Hook", (), {"append": staticmethod(take_over)})()
    outcome = world.run()
    assert isinstance(outcome.error, Fenced)
    assert world.rows("select count(*) from unified_data") == [(10,)]
    assert world.rows("select status, records_extracted from etl_runs order by id") == [("abandoned", 10), ("success", 0)]


def test_a_lease_that_was_taken_over_cannot_be_renewed(world: Any, dsn: str) -> None:
    held = begin_run(world.conn, "test", "cli")
    renew_lease(world.conn, held)
    world.conn.execute("update etl_checkpoints set epoch = epoch + 1")
    with pytest.raises(Fenced):
        renew_lease(world.conn, held)


def test_a_request_to_stop_closes_the_run_after_the_batch_in_hand(world: Any, coins: Coins) -> None:
    world.bodies, world.batch_size = [coins(20)], 10

    def stop(_progress: Any) -> None:
        world.stop.signal = signal.SIGTERM
        world.stop.asked = True

    world.seen = type("Hook", (), {"append": staticmethod(stop)})()
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("cancelled", Counts(inserted=10))
    assert world.rows("select status, lease_expires_at from etl_runs, etl_checkpoints") == [("cancelled", None)]
    world.stop.asked = False
    world.seen = []
    assert world.run().counts == Counts(inserted=10)


def test_the_bytes_of_a_payload_survive_whatever_they_are(world: Any) -> None:
    body = json.dumps([{"id": "a", "x": "\x00\ud800"}]).encode() + b"\n" * 3
    world.bodies = [body]
    assert world.run().counts == Counts(inserted=1)
    assert world.rows("select body from raw_api_data") == [(body,)]


def test_a_holder_that_sleeps_inside_a_batch_is_not_waited_for_long(world: Any, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    monkeypatch.setitem(queries, "bound_batch", b"select set_config('lock_timeout', '50ms', true)")
    with connect(dsn, "sleeper") as sleeper, sleeper.transaction():
        sleeper.execute("select from etl_checkpoints for update")
        outcome = world.run()
    assert isinstance(outcome.error, Locked)
    assert "in the middle of a batch of test" in str(outcome.error)


def test_an_error_is_kept_as_one_line_of_text(world: Any) -> None:
    world.bodies = [SourceError("a\nb\x00c\udcffd")]
    assert world.run().status == "failed"
    assert world.rows("select error_message from etl_runs") == [("a b c d",)]
