"""How a change ends: by itself when the field is as before, by hand otherwise; one cause is one event, and two causes are two."""

from __future__ import annotations

from typing import Any

import pytest

from etl.chaos import Chaos
from etl.drift.store import accept, dismiss, end_drifts, undo
from etl.errors import SourceError
from etl.execute import run
from etl.lease import begin_run
from etl.replay import Selection, replayed
from etl.retry import retry_all
from etl.stop import Stop
from etl.work import Options, Work
from shared.settings import read_settings
from tests.etl.drift.test_policies import priced, renamed

OPEN = "select field, change from schema_drift where accepted_at is null and resolved_at is null order by id"
ENDED = "select field, change from schema_drift where resolved_at is not null order by id"
ADVICE = "select errors -> 0 ->> 'reason' from quarantined_records where raw_position is null and resolved_at is null order by id"
Coins = list[dict[str, Any]]


@pytest.fixture
def usual(world: Any) -> Any:
    """A source that has sent 50 coins once."""
    world.bodies = [priced(50)]
    assert world.run().status == "success"
    return world


def send(world: Any, *bodies: Coins, **options: Any) -> Any:
    """Let upstream say something new, in one run."""
    world.bodies += bodies
    return world.run(**options)


def without(coins: Coins, field: str) -> Coins:
    return [{name: value for name, value in coin.items() if name != field} for coin in coins]


CAUSES = {
    "missing": without(priced(50), "price"),
    "empty": [{**coin, "price": None} for coin in priced(50)],
    "renamed": renamed(priced(50), "price", "usd_price"),
    "text": [{**coin, "price": f"{coin['price']} USD"} for coin in priced(50)],
    "cents": renamed(priced(50), "price", "price", by=100),
    "refused": renamed(priced(50), "id", "coin_id"),
    "another upstream": [{"x": n, "y": n, "z": n} for n in range(50)],
}

DOUBTFUL = [{**coin, "usd_price": "n/a"} for coin in without(priced(50), "price")]
"""The same rename, in records that do not show it."""


@pytest.mark.parametrize("cause", CAUSES)
def test_a_change_whose_field_is_as_before_is_closed_by_the_next_good_run(usual: Any, cause: str) -> None:
    send(usual, CAUSES[cause])
    assert len(usual.rows(OPEN)) == 1
    usual.bodies[1:] = [priced(51)]
    usual.again()
    outcome = usual.run()
    assert (outcome.status, outcome.drift, usual.rows(OPEN)) == ("success", 0, [])
    assert usual.rows("select resolved_at > last_seen_at, accepted_at from schema_drift") == [(True, None)]
    send(usual, CAUSES[cause])
    assert len(usual.rows(OPEN)) == 1


def test_a_change_that_lasts_stays_open_however_often_it_was_learned(usual: Any) -> None:
    for number in range(6):
        body = [{**coin, "note": f"n{coin['name']}", "score": 5} if number < 2 else {**coin, "note": 7} for coin in priced(60)]
        send(usual, body)
    assert usual.rows(OPEN) == [("note", "added"), ("score", "missing"), ("note", "retyped")]
    assert usual.rows(ENDED) == [("score", "added")]


def test_a_change_that_another_payload_of_the_same_run_shows_is_not_closed(usual: Any) -> None:
    for _ in range(3):
        send(usual, without(priced(50), "price"), priced(52))
        send(usual, priced(53), without(priced(50), "price"))
    assert usual.rows("select field, change, resolved_at from schema_drift") == [("price", "missing", None)]


def test_a_run_that_goes_on_with_one_that_broke_off_closes_nothing_but_the_one_after_it_does(usual: Any) -> None:
    usual.environ = {"ETL_FAIL_AFTER_N_RECORDS": "50"}
    assert send(usual, without(priced(50), "price"), priced(52)).status == "failed"
    usual.environ = {}
    usual.run()
    assert usual.rows(OPEN) == [("price", "missing")]
    send(usual, priced(53))
    assert usual.rows(OPEN) == []


@pytest.mark.parametrize("options", [{"dry_run": True}, {"limit": 5}])
def test_a_run_that_is_none_or_not_whole_closes_nothing(usual: Any, options: dict[str, Any]) -> None:
    send(usual, without(priced(50), "price"))
    send(usual, priced(52), **options)
    assert usual.rows(OPEN) == [("price", "missing")]


def test_two_causes_on_one_field_are_two_events_and_each_ends_by_itself(usual: Any) -> None:
    send(usual, CAUSES["text"])
    usual.bodies.pop()
    send(usual, CAUSES["cents"])
    told = "select note, resolved_at is not null from schema_drift order by id"
    assert usual.rows(told) == [("text where number was", True), ("magnitude differs by a factor of 100", False)]
    send(usual, [{**coin, "price": coin["price"] * 300} for coin in priced(50)])
    assert usual.rows(told)[1:] == [("magnitude differs by a factor of 300", False)]
    send(usual, priced(50))
    assert usual.rows(OPEN) == []


def test_a_rename_that_shows_itself_later_takes_the_place_of_what_it_looked_like(usual: Any) -> None:
    send(usual, DOUBTFUL)
    assert usual.rows(OPEN) == [("price", "missing"), ("usd_price", "added")]
    send(usual, renamed(priced(50), "price", "usd_price"))
    assert usual.rows(OPEN) == [("price", "renamed")]


def test_a_rename_that_is_known_is_not_also_a_field_that_is_missing_and_one_that_was_added(usual: Any) -> None:
    send(usual, renamed(priced(50), "price", "usd_price"), DOUBTFUL)
    send(usual, DOUBTFUL)
    assert usual.rows("select change, suggested_field, confidence::float8, run_id from schema_drift") == [("renamed", "usd_price", 0.98, 3)]


def test_an_event_is_dismissed_and_opened_again_by_hand(usual: Any) -> None:
    send(usual, CAUSES["missing"])
    dismiss(usual.conn, 1)
    assert (usual.rows(OPEN), usual.rows(ENDED)) == ([], [("price", "missing")])
    with pytest.raises(SourceError, match="drift 1 is not open"):
        dismiss(usual.conn, 1)
    with pytest.raises(SourceError, match="drift 1 has ended, nothing is to accept"):
        accept(usual.conn, 1, force=False)
    undo(usual.conn, 1)
    assert usual.rows(OPEN) == [("price", "missing")]
    dismiss(usual.conn, 1)
    send(usual, CAUSES["missing"])
    assert usual.rows("select id, resolved_at is null from schema_drift order by id") == [(1, False), (2, True)]
    with pytest.raises(SourceError, match="open under another number"):
        undo(usual.conn, 1)


def replay(world: Any) -> Any:
    """Load again all that is stored."""
    source, options = replayed(world.source, world.link, Selection()), Options(batch_size=100, trigger="replay")
    return run(Work(world.link, source, read_settings({}), options, Stop(), world.seen.append, lambda text: text, Chaos()))


def test_a_payload_loaded_under_a_rename_is_replayed_under_it_after_it_was_taken_back(usual: Any) -> None:
    send(usual, CAUSES["refused"])
    accept(usual.conn, 1, force=False)
    assert usual.run().status == "success"
    usual.bodies.append(renamed(priced(70), "id", "coin_id"))
    assert usual.run().counts.total == 70
    undo(usual.conn, 1)
    outcome = replay(usual)
    assert (outcome.status, outcome.counts.quarantined, outcome.counts.total) == ("success", 0, 170)
    send(usual, renamed(priced(80), "id", "coin_id"))
    assert usual.rows("select count(*) from unified_data where external_id = 'c0079'") == [(0,)]  # what is new is read as it is


@pytest.mark.parametrize("loaded_by", ["replay", "retry"])
def test_a_payload_set_aside_and_loaded_later_under_a_rename_is_replayed_under_it_too(usual: Any, loaded_by: str) -> None:
    usual.environ = {"ETL_DRIFT_POLICY": "quarantine"}
    send(usual, CAUSES["refused"])
    accept(usual.conn, 1, force=False)
    if loaded_by == "replay":
        replay(usual)
    else:
        retry_all(usual.conn, usual.source, Stop(), ())
    undo(usual.conn, 1)
    outcome = replay(usual)
    assert (outcome.status, outcome.counts.quarantined, outcome.counts.total) == ("success", 0, 100)


def test_a_refused_payload_that_a_run_loads_after_all_is_no_longer_in_quarantine(usual: Any) -> None:
    assert send(usual, CAUSES["refused"]).status == "refused"
    assert usual.rows("select resolved_at from quarantined_records") == [(None,)]
    accept(usual.conn, 1, force=False)
    assert usual.run().status == "success"
    assert usual.rows("select count(*) from quarantined_records where resolved_at is null") == [(0,)]


@pytest.mark.parametrize("cause", ["refused", "another upstream"])
def test_an_entry_that_advises_to_accept_a_change_advises_to_close_it_once_the_change_has_ended(usual: Any, cause: str) -> None:
    assert send(usual, CAUSES[cause]).status == "refused"
    ((told,),) = usual.rows(ADVICE)
    assert told.endswith("`kasparro-etl drift accept 1`")
    usual.bodies[-1] = priced(50)
    assert usual.run().status == "success"
    ((now,),) = usual.rows(ADVICE)
    assert usual.rows(ENDED) != []
    assert now.endswith(": that has ended: `kasparro-etl quarantine dismiss 1` closes this entry")
    assert "accept" not in now
    assert "if that is right" not in now
    assert now.partition(":")[0] == told.partition(":")[0]


@pytest.mark.parametrize("decided", [True, False])
def test_the_advice_to_accept_a_change_stays_as_long_as_one_that_it_names_is_no_thing_of_the_past(usual: Any, decided: bool) -> None:
    send(usual, CAUSES["refused"])
    before = usual.rows(ADVICE)
    usual.conn.execute("update schema_drift set accepted_at = now()" if decided else "select")
    end_drifts(usual.conn, begin_run(usual.conn, "test", "cli"), [])
    assert usual.rows(ADVICE) == before
