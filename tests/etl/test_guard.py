"""The guards: too many invalid records, a list that shrank, assets that vanish and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from etl.errors import Refused
from etl.guard import find_invalid, find_shrink
from etl.lease import Counts

Coins = Callable[..., list[dict[str, Any]]]
BAD = [{"id": 7}]


@pytest.mark.parametrize(
    ("seen", "invalid", "refused"), [(19, 19, False), (100, 20, False), (100, 21, True), (20, 20, True), (1000, 201, True)]
)
def test_a_run_is_refused_above_the_ratio_and_from_twenty_invalid_on(seen: int, invalid: int, refused: bool) -> None:
    assert (find_invalid(seen, invalid, 0.2) is not None) is refused


@pytest.mark.parametrize(
    ("records", "usual", "refused"), [(0, None, True), (1, None, False), (49, 100, True), (50, 100, False), (0, 1, True)]
)
def test_a_list_is_refused_under_half_of_what_is_usual_and_when_empty(records: int, usual: int | None, refused: bool) -> None:
    assert (find_shrink("test", records, usual) is not None) is refused


def test_a_refused_run_keeps_payload_and_quarantine_and_nothing_else(world: Any, coins: Coins) -> None:
    world.bodies = [[*coins(70), *({"id": f"b{n}", "price": "x"} for n in range(30))]]
    outcome = world.run()
    assert (outcome.status, outcome.counts, type(outcome.error)) == ("refused", Counts(quarantined=30), Refused)
    assert "ETL_MAX_INVALID_RATIO=0.2" in str(outcome.error)
    assert world.rows("select count(*) from unified_data union all select count(*) from price_history") == [(0,), (0,)]
    assert world.rows("select count(*) from quarantined_records union all select count(*) from raw_api_data") == [(30,), (1,)]
    assert world.rows("select position, seq, lease_expires_at from etl_checkpoints") == [({}, 0, None)]
    assert world.rows("select status, records_extracted, records_quarantined from etl_runs") == [("refused", 30, 30)]
    world.environ = {"ETL_MAX_INVALID_RATIO": "0.5"}
    assert world.run().counts == Counts(inserted=70, quarantined=30)


def test_batches_committed_before_the_refusal_stay_and_the_checkpoint_with_them(world: Any, coins: Coins) -> None:
    world.bodies, world.batch_size = [coins(100), [{"id": f"b{n}", "price": "x"} for n in range(100)]], 50
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("refused", Counts(inserted=100, quarantined=50))
    assert world.rows("select position from etl_checkpoints") == [({"cursor": {"next": 1}},)]


def whole(world: Any) -> None:
    """Make every body the upstream's whole list."""
    extract = world.extract
    world.extract = lambda *told: (replace(payload, list_start=True, list_end="whole", cursor={}) for payload in extract(*told))


def test_a_list_that_shrank_is_refused_until_somebody_accepts_it(world: Any, coins: Coins) -> None:
    whole(world)
    for count in (100, 90, 60):
        world.bodies = [coins(count)]
        assert world.run().status == "success"
    world.bodies = [coins(40, price=9)]
    outcome = world.run()
    assert (outcome.status, outcome.counts) == ("refused", Counts())
    assert "has 40 records, usually 90: pass --allow-shrink" in str(outcome.error)
    assert world.rows("select count(*) from unified_data where price_usd = 9 union all select count(*) from raw_api_data") == [(0,), (4,)]
    assert str(outcome.error).endswith("`kasparro-etl run --source test --allow-shrink`")
    assert world.run(allow_shrink=True).counts == Counts(updated=40)


def test_a_shrink_that_was_accepted_once_is_the_usual_from_the_next_run_on(world: Any, coins: Coins) -> None:
    whole(world)
    for count in (100, 100, 100):
        world.bodies = [coins(count)]
        assert world.run().status == "success"
    world.bodies = [coins(30)]
    assert world.run(allow_shrink=True).status == "success"
    assert [world.run().status for _ in range(3)] == ["success"] * 3
    world.bodies = [coins(14)]
    outcome = world.run()
    assert (outcome.status, "has 14 records, usually 30" in str(outcome.error)) == ("refused", True)


def test_an_empty_list_is_refused_even_on_the_first_run(world: Any) -> None:
    whole(world)
    world.bodies = [[]]
    assert world.run().status == "refused"
    assert world.run(allow_shrink=True).status == "success"


def test_a_limited_run_says_nothing_of_the_lists_length(world: Any, coins: Coins) -> None:
    whole(world)
    world.bodies = [coins(100)]
    world.run(limit=30)
    assert world.rows("select snapshot_records from etl_runs") == [(None,)]
    world.run()
    assert world.rows("select snapshot_records from etl_runs order by id") == [(None,), (100,)]


def test_an_asset_missing_from_three_lists_and_a_day_becomes_inactive_and_comes_back(world: Any, coins: Coins) -> None:
    whole(world)
    status = "select status from unified_data where external_id = 'c0009'"
    world.bodies = [coins(10)]
    world.run()
    world.bodies = [coins(9)]
    for _ in range(4):
        world.run()
        assert world.rows(status) == [("active",)]
    world.conn.execute("update asset_absences set first_missing_at = first_missing_at - interval '25 hours'")
    world.run()
    assert world.rows(status) == [("inactive",)]
    assert world.rows("select count(*) from unified_data where status = 'active'") == [(9,)]
    world.bodies = [coins(10)]
    assert world.run().counts == Counts(updated=1, unchanged=9)
    assert world.rows(status + " union all select count(*)::text from asset_absences") == [("active",), ("0",)]


def test_an_asset_that_is_quarantined_is_not_missing(world: Any, coins: Coins) -> None:
    whole(world)
    world.bodies = [coins(10)]
    world.run()
    world.bodies = [[*coins(9), {"id": "c0009", "price": "x"}]]
    world.run()
    assert world.rows("select count(*) from asset_absences") == [(0,)]


def test_a_record_that_arrives_valid_resolves_its_quarantine_entry(world: Any, coins: Coins) -> None:
    world.bodies = [[*coins(3), {"id": "c0003", "price": "x"}, *BAD]]
    world.run()
    world.bodies.append(coins(4))
    world.run()
    assert world.rows("select external_id, resolved_at is not null from quarantined_records order by id") == [
        ("c0003", True),
        (None, False),
    ]
