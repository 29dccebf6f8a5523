"""Drift in the loop: what is recorded, what each policy does, what a decision changes, and what a crash cannot lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from etl.drift.store import accept, undo
from etl.errors import Refused, SourceError
from etl.lease import Counts
from etl.retry import retry_all
from etl.stop import Stop

Coins = Callable[..., list[dict[str, Any]]]
EVENTS = "select field, change, suggested_field, relied, required from schema_drift order by id"


def renamed(coins: list[dict[str, Any]], old: str, new: str, by: float = 1) -> list[dict[str, Any]]:
    return [
        {new if name == old else name: value * by if name == old and by != 1 else value for name, value in coin.items()} for coin in coins
    ]


def priced(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"c{n:04}", "name": f"Coin {n}", "price": 1.5 + n * 3} for n in range(first, first + count)]


@pytest.fixture
def usual(world: Any) -> Any:
    """A source that has sent 50 coins once."""
    world.bodies = [priced(50)]
    assert world.run().status == "success"
    assert world.rows("select stream, profile -> 'records' from source_profiles") == [("", 50)]
    return world


def test_a_first_payload_and_a_second_like_it_are_no_drift(usual: Any) -> None:
    usual.bodies.append(priced(60))
    assert usual.run().counts == Counts(inserted=10, unchanged=50)
    assert usual.rows(EVENTS) == []
    assert usual.rows("select profile -> 'records' from source_profiles") == [(110,)]


def test_a_rename_is_one_event_however_often_it_is_seen(usual: Any) -> None:
    usual.bodies.append(renamed(priced(50), "price", "usd_price"))
    outcome = usual.run()
    assert (outcome.status, outcome.drift) == ("success", 1)
    assert usual.rows(EVENTS) == [("price", "renamed", "usd_price", True, False)]
    first = usual.rows("select last_seen_at, run_id, sample from schema_drift")[0]
    usual.bodies.append(renamed(priced(50), "price", "usd_price"))
    usual.run()
    again = usual.rows("select last_seen_at, run_id, sample from schema_drift")
    assert (len(again), again[0][0] > first[0], again[0][1], again[0][2]) == (1, True, first[1] + 1, "1.5, 4.5, 7.5")


def test_a_payload_with_an_unresolved_drift_teaches_nothing(usual: Any) -> None:
    for _ in range(3):
        usual.bodies.append([{"id": coin["id"], "name": coin["name"]} for coin in priced(50)])
        usual.run()
    assert usual.rows(EVENTS) == [("price", "missing", None, True, False)]
    assert usual.rows("select profile -> 'records' from source_profiles") == [(50,)]


def test_an_added_field_is_an_event_and_stops_nothing(usual: Any) -> None:
    usual.environ = {"ETL_DRIFT_POLICY": "freeze"}
    usual.bodies.append([{**coin, "score": 5} for coin in priced(50)])
    assert usual.run().status == "success"
    assert usual.rows(EVENTS) == [("score", "added", None, False, False)]


def test_freeze_writes_the_event_and_nothing_else(usual: Any) -> None:
    usual.environ = {"ETL_DRIFT_POLICY": "freeze"}
    before = usual.rows("select position, seq from etl_checkpoints")
    usual.bodies.append(renamed(priced(60), "price", "usd_price"))
    outcome = usual.run()
    assert (outcome.status, type(outcome.error), outcome.counts) == ("refused", Refused, Counts())
    assert str(outcome.error).endswith("`kasparro-etl drift accept 1`")
    assert usual.rows("select count(*) from raw_payloads union all select count(*) from unified_data") == [(1,), (50,)]
    assert usual.rows("select count(*) from quarantined_records") == [(0,)]
    assert usual.rows("select position, seq from etl_checkpoints") == before


def test_quarantine_sets_the_payload_aside_as_one_entry_and_goes_on(usual: Any) -> None:
    usual.environ = {"ETL_DRIFT_POLICY": "quarantine"}
    usual.bodies += [renamed(priced(60), "price", "usd_price"), priced(55)]
    outcome = usual.run()
    assert (outcome.status, outcome.counts) == ("partial", Counts(inserted=5, unchanged=50, quarantined=60))
    assert usual.rows("select raw_position, raw_id, attempts from quarantined_records") == [(None, 2, 1)]
    assert usual.rows("select position from etl_checkpoints") == [({"cursor": {"next": 3}},)]
    assert usual.rows("select octet_length(body) > 2000 from raw_payloads where id = 2") == [(True,)]
    assert usual.rows("select first_position, next_position, quarantined from etl_batches where raw_id = 2") == [(0, 60, 60)]


@pytest.mark.parametrize("count", [50, 5])
def test_a_required_field_that_is_gone_refuses_the_run_with_one_entry(usual: Any, count: int) -> None:
    usual.bodies.append(renamed(priced(count), "id", "coin_id"))
    for _ in range(2):
        outcome = usual.run()
        assert (outcome.status, outcome.counts) == ("refused", Counts(quarantined=count))
        assert "id looks renamed to coin_id" in str(outcome.error)
        assert str(outcome.error).endswith("`kasparro-etl drift accept 1`")
    assert usual.rows("select raw_position, attempts from quarantined_records") == [(None, 2)]
    assert usual.rows("select position from etl_checkpoints") == [({"cursor": {"next": 1}},)]
    accept(usual.conn, 1, force=False)
    assert usual.run().status == "success"


def test_a_first_run_against_a_renamed_upstream_says_so(world: Any) -> None:
    world.bodies = [renamed(priced(30), "id", "coin_id")]
    outcome = world.run()
    assert outcome.status == "refused"
    assert world.rows(EVENTS) == [("id", "renamed", "coin_id", True, True)]
    accept(world.conn, 1, force=False)
    assert world.run().counts == Counts(inserted=30)


def test_an_accepted_rename_is_read_from_the_next_run_on_and_can_be_undone(usual: Any) -> None:
    usual.bodies.append(renamed(priced(60), "price", "usd_price"))
    usual.run()
    accept(usual.conn, 1, force=False)
    usual.bodies.append(renamed(priced(60), "price", "usd_price"))
    assert usual.run().drift == 0
    assert usual.rows("select price_usd from unified_data where external_id = 'c0059'") == [(178.5,)]
    assert usual.rows("select upstream_field, field from field_aliases") == [("usd_price", "price")]
    with pytest.raises(SourceError, match="accepted already"):
        accept(usual.conn, 1, force=False)
    undo(usual.conn, 1)
    assert usual.rows("select count(*) from field_aliases where ended_at is null") == [(0,)]
    usual.bodies.append(renamed(priced(60), "price", "usd_price"))
    assert usual.run().drift == 1
    with pytest.raises(SourceError, match="not accepted"):
        undo(usual.conn, 1)


def test_a_decision_taken_while_a_run_is_under_way_counts_for_the_next(usual: Any) -> None:
    drifted = renamed(priced(60), "price", "usd_price")
    usual.bodies += [drifted, [{**coin, "name": "again"} for coin in drifted]]
    decided: list[int] = []

    def decide(_progress: Any) -> None:
        if not decided and usual.rows(EVENTS):
            decided.append(1)
            accept(usual.conn, 1, force=False)

    usual.seen = type("Hook", (), {"append": staticmethod(decide)})()
    usual.run()
    assert decided
    assert usual.rows("select price_usd from unified_data where external_id = 'c0059'") == [(None,)]
    assert usual.rows("select field, accepted_at is null from schema_drift order by id") == [("price", False), ("price", True)]


def test_a_rename_of_another_magnitude_is_accepted_only_by_force(usual: Any) -> None:
    usual.bodies.append(renamed(priced(50), "price", "price_cents", by=100))
    usual.run()
    assert usual.rows("select change, suggested_field, note from schema_drift") == [
        ("renamed", "price_cents", "magnitude differs by a factor of 100")
    ]
    with pytest.raises(SourceError, match=r"it was 1\.5, 4\.5, 7\.5, it is 150.*--force"):
        accept(usual.conn, 1, force=False)
    accept(usual.conn, 1, force=True)


def test_a_price_in_another_unit_is_an_event_and_accepting_it_makes_it_usual(usual: Any) -> None:
    usual.bodies.append(renamed(priced(50), "price", "price", by=100))
    usual.run()
    assert usual.rows("select change, note from schema_drift") == [("retyped", "magnitude differs by a factor of 100")]
    accept(usual.conn, 1, force=True)
    usual.bodies.append(renamed(priced(50), "price", "price", by=100))
    assert usual.run().drift == 0
    undo(usual.conn, 1)
    usual.bodies.append(renamed(priced(50), "price", "price", by=100))
    assert usual.run().drift == 1


def test_a_missing_field_that_was_accepted_is_told_no_more_until_undone(usual: Any) -> None:
    bare = [{"id": coin["id"], "name": coin["name"]} for coin in priced(50)]
    usual.bodies.append(bare)
    usual.run()
    accept(usual.conn, 1, force=False)
    usual.bodies.append(bare)
    assert usual.run().drift == 0
    undo(usual.conn, 1)
    usual.bodies.append(bare)
    assert usual.run().drift == 1
    assert usual.rows("select count(*) from schema_drift") == [(1,)]


def test_strings_where_numbers_were_are_one_event_and_one_entry(usual: Any) -> None:
    usual.bodies.append([{**coin, "price": f"{coin['price']} USD"} for coin in priced(50)])
    outcome = usual.run()
    assert (outcome.status, outcome.counts) == ("refused", Counts(quarantined=50))
    assert usual.rows("select field, change, note from schema_drift") == [("price", "retyped", "text where number was")]
    assert usual.rows("select count(*) from quarantined_records") == [(1,)]


def test_a_payload_gone_on_with_is_not_compared_again(usual: Any) -> None:
    usual.bodies.append(renamed(priced(50), "price", "usd_price"))
    usual.run(limit=10)
    usual.conn.execute("delete from schema_drift")
    assert usual.run().counts.total == 40
    assert usual.rows(EVENTS) == []


def test_a_limit_that_a_payload_set_aside_exceeds_loses_nothing_behind_it(usual: Any) -> None:
    usual.environ = {"ETL_DRIFT_POLICY": "quarantine"}
    usual.bodies += [renamed(priced(60, first=100), "price", "usd_price"), priced(30, first=200), priced(30, first=300)]
    assert usual.run(limit=10).counts == Counts(quarantined=60)
    assert usual.run(limit=10).counts == Counts(inserted=10)
    assert usual.run().counts == Counts(inserted=50)
    assert usual.rows("select count(*) from unified_data") == [(110,)]


def test_a_dry_run_records_nothing(usual: Any) -> None:
    usual.bodies.append(renamed(priced(50), "id", "coin_id"))
    outcome = usual.run(dry_run=True)
    assert outcome.status == "refused"
    assert usual.rows("select count(*) from schema_drift union all select count(*) from quarantined_records") == [(0,), (0,)]


def test_accepting_what_is_not_there_is_one_clear_line(world: Any) -> None:
    with pytest.raises(SourceError, match="there is no drift 7: see kasparro-etl drift list"):
        accept(world.conn, 7, force=False)


def test_a_payload_set_aside_is_loaded_by_a_retry_once_its_rename_is_accepted(usual: Any) -> None:
    usual.environ = {"ETL_DRIFT_POLICY": "quarantine"}
    usual.bodies.append(renamed(priced(60, first=100), "price", "usd_price"))
    usual.run()
    before = usual.rows("select position from etl_checkpoints")
    assert retry_all(usual.conn, usual.source, Stop(), ()) == Counts(inserted=60)  # an optional field is lost, the records are valid
    accept(usual.conn, 1, force=False)
    usual.conn.execute("update quarantined_records set resolved_at = null")
    assert retry_all(usual.conn, usual.source, Stop(), ()) == Counts(updated=60)
    assert usual.rows("select count(price_usd) from unified_data") == [(110,)]
    assert usual.rows("select resolved_at is not null from quarantined_records") == [(True,)]
    assert usual.rows("select position from etl_checkpoints") == before


def test_a_payload_of_which_nothing_is_valid_stays_in_quarantine_after_a_retry(usual: Any) -> None:
    usual.bodies.append(renamed(priced(60), "id", "coin_id"))
    assert usual.run().status == "refused"
    assert retry_all(usual.conn, usual.source, Stop(), ()) == Counts(quarantined=60)
    assert usual.rows("select raw_position, attempts, resolved_at from quarantined_records") == [(None, 2, None)]
    accept(usual.conn, 1, force=False)
    assert retry_all(usual.conn, usual.source, Stop(), ()) == Counts(inserted=10, unchanged=50)
    assert usual.rows("select count(*) from quarantined_records where resolved_at is null") == [(0,)]
