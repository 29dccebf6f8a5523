"""`kasparro-etl replay`: the stored payloads once more, into the live tables and against them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl.lease import begin_run
from shared.db import Connection

SERVED = """select source, external_id, kind, symbol, name, category, price_usd::text, market_cap_usd::text, volume_24h_usd::text,
       rank, url, tags,
       source_updated_at, status from unified_data order by source, external_id"""
PRICES = "select source, external_id, observed_at, price_usd::text from price_history order by 1, 2, 3"
POSITIONS = "select source, position, records_total, updated_at from etl_checkpoints order by source"


@pytest.fixture
def world(offline: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Four sources that answer; the file has no dates."""
    (tmp_path / "assets.csv").write_text(rows(range(30)))
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv")}


def rows(numbers: Any, price: Callable[[int], Any] = lambda n: f"{n}.5") -> str:
    return "id,symbol,name,price\n" + "".join(f"c{n},C{n},Coin {n},{price(n)}\n" for n in numbers)


def coins(*told: tuple[str, Any, str | None]) -> bytes:
    """A page of CoinGecko: id, price, last_updated."""
    return json.dumps([{"id": i, "symbol": i, "name": i, "current_price": price, "last_updated": at} for i, price, at in told]).encode()


def all_of(conn: Connection, *statements: str) -> list[Any]:
    return [conn.execute(statement.encode()).fetchall() for statement in statements]


def differing(done: Any) -> list[tuple[str, str, str | None]]:
    return [(row["external_id"], row["difference"], row["field"]) for row in done.objects if row["type"] == "difference"]


def test_a_replay_of_what_is_served_changes_nothing_and_asks_no_upstream(etl: Any, world: Any, upstream: Any, conn: Connection) -> None:
    assert etl("run", "--source", "all", **world).code == 0
    before, asked = all_of(conn, SERVED, PRICES, POSITIONS), len(upstream.log)
    done = etl("replay", "--json", **world)
    assert done.code == 0, done.err
    assert [(run["source"], run["records_unchanged"], run["records_updated"]) for run in done.objects[-1]["runs"]] == [
        ("coinpaprika", 4, 0),
        ("coingecko", 3, 0),
        ("csv", 30, 0),
        ("rss", 1, 0),
    ]
    assert (all_of(conn, SERVED, PRICES, POSITIONS), len(upstream.log)) == (before, asked)
    assert conn.execute("select distinct trigger from etl_runs where id > 4").fetchall() == [{"trigger": "replay"}]
    assert etl("replay", "--verify", **world).code == 0


def test_a_verification_tells_every_difference_by_field_and_a_replay_mends_them(etl: Any, world: Any, conn: Connection) -> None:
    etl("run", "--source", "all", **world)
    before = all_of(conn, SERVED, PRICES)
    conn.execute("update unified_data set price_usd = 7, name = 'other' where external_id = 'c3'")
    conn.execute("delete from unified_data where external_id = 'c4'")
    conn.execute("update price_history set price_usd = 8 where external_id = 'c5'")
    conn.execute("delete from price_history where external_id = 'c6'")
    conn.execute("update unified_data set external_id = 'stranger' where external_id = 'bitcoin'")
    done = etl("replay", "--verify", "--json", **world)
    assert (done.code, differing(done)) == (
        3,
        [
            ("bitcoin", "missing", None),
            ("stranger", "extra", None),
            ("c3", "changed", "name"),
            ("c3", "changed", "price_usd"),
            ("c4", "missing", None),
            ("c5", "changed", "price_usd"),
            ("c6", "missing", None),
        ],
    )
    told = etl("replay", "--verify", "--source", "csv", **world)
    assert "csv c3: price_usd: served 7, replayed 3.5" in told.out
    assert conn.execute("select count(*) as n from unified_data where external_id = 'c4'").fetchone() == {"n": 0}
    conn.execute("delete from unified_data where external_id = 'stranger'")
    assert etl("replay", **world).code == 0
    assert all_of(conn, SERVED, PRICES) == before
    assert etl("replay", "--verify", **world).code == 0


def test_everything_is_rebuilt_from_raw_after_the_tables_were_emptied(
    etl: Any, world: Any, upstream: Any, conn: Connection, tmp_path: Path
) -> None:
    for step in range(3):
        (tmp_path / "assets.csv").write_text(rows(range(5, 30), (step + 1).__add__))
        upstream.answers["/g/coins/markets"] = coins(("a", step, f"2026-11-0{step + 1}T00:00:00Z"), ("b", step, None))
        assert etl("run", "--source", "csv,coingecko", **world).code == 0
    before = all_of(conn, SERVED, PRICES)
    conn.execute("truncate unified_data, price_history")
    assert etl("replay", **world).code == 0
    assert all_of(conn, SERVED, PRICES) == before
    assert etl("replay", "--verify", **world).code == 0


def test_an_older_payload_never_overwrites_what_is_served(etl: Any, world: Any, upstream: Any, conn: Connection) -> None:
    for price, at in ((1, "2026-11-01T00:00:00Z"), (2, "2026-11-02T00:00:00Z")):
        upstream.answers["/g/coins/markets"] = coins(("dated", price, at), ("undated", price, None))
        etl("run", "--source", "coingecko", **world)
    conn.execute("update raw_payloads set fetched_at = fetched_at - interval '30 days' where run_id = 1")
    served = all_of(conn, SERVED)
    done = etl("replay", "--run", "1", "--json", **world)
    assert (done.code, done.objects[-1]["runs"][0]["records_unchanged"]) == (0, 2)
    assert all_of(conn, SERVED) == served


def test_bytes_that_came_back_count_by_their_last_load(etl: Any, world: Any, conn: Connection, tmp_path: Path) -> None:
    for price in (1, 2, 1):
        (tmp_path / "assets.csv").write_text(rows(range(3), [price, price, price].__getitem__))
        assert etl("run", "--source", "csv", **world).code == 0
    served = all_of(conn, SERVED)
    assert conn.execute("select count(*) as n from raw_payloads").fetchone() == {"n": 2}
    assert etl("replay", "--verify", **world).code == 0
    assert etl("replay", **world).code == 0
    assert all_of(conn, SERVED) == served


@pytest.mark.parametrize(
    "prices",
    [
        [(1, 5), (1, 6), (1, 5)],
        [(1, 5), (2, 6), (1, 5), (2, 6), (2, 7), (1, 5)],
        [(1, 5), (1, 5), (1, 6), (1, 6), (2, 5), (1, 5), (1, 5), (1, 6)],
    ],
)
def test_a_file_that_returns_to_an_earlier_content_is_verified_as_it_was_loaded(
    etl: Any, world: Any, conn: Connection, tmp_path: Path, prices: list[tuple[int, int]]
) -> None:
    for pair in prices:
        (tmp_path / "assets.csv").write_text(rows(range(2), pair.__getitem__))
        assert etl("run", "--source", "csv", "--full-refresh", **world).code == 0
    assert etl("replay", "--verify", "--json", **world).objects[:-2] == []
    conn.execute("delete from price_history where observed_at = (select max(observed_at) from price_history)")
    assert {row["difference"] for row in etl("replay", "--verify", "--json", **world).objects[:-2]} == {"missing"}


def test_assets_that_a_backfill_changed_are_not_verified_against_runs(etl: Any, world: Any, conn: Connection, tmp_path: Path) -> None:
    etl("run", "--source", "csv", **world)
    (tmp_path / "old").write_text(rows([3, 4], lambda n: 7 * n))
    assert etl("backfill", "--file", "old", **world).code == 0
    assert conn.execute("select price_usd::text as p from unified_data where external_id = 'c3'").fetchone() == {"p": "21"}
    done = etl("replay", "--verify", "--json", **world)
    assert (done.code, differing(done), done.objects[-1]["sources"][0]["unverified"]) == (0, [], 2)


def test_a_replay_proves_nothing_of_whether_an_asset_is_active(etl: Any, world: Any, conn: Connection) -> None:
    etl("run", "--source", "coingecko", **world)
    conn.execute("update unified_data set status = 'inactive', name = 'other' where external_id = 'bitcoin'")
    assert etl("replay", **world).code == 0
    assert conn.execute("select status, name from unified_data where external_id = 'bitcoin'").fetchone() == {
        "status": "inactive",
        "name": "Bitcoin",
    }


def test_payloads_are_chosen_by_run_and_by_time(etl: Any, world: Any, conn: Connection) -> None:
    etl("run", "--source", "all", **world)
    conn.execute("update unified_data set name = 'other'")
    assert etl("replay", "--run", "3", **world).code == 0
    assert conn.execute("select distinct source from unified_data where name <> 'other'").fetchall() == [{"source": "csv"}]
    none = etl("replay", "--since", "2999-01-01", **world)
    assert (none.code, "nothing is stored that fits" in none.err) == (2, True)
    assert etl("replay", "--run", "999", **world).code == 2
    assert etl("replay", "--since", "2020-01-01T00:00:00Z", "--source", "rss", **world).code == 0
    assert len(conn.execute("select distinct source from unified_data where name <> 'other'").fetchall()) == 2


def test_a_verification_of_some_payloads_leaves_the_other_rows_alone(etl: Any, world: Any, conn: Connection, tmp_path: Path) -> None:
    etl("run", "--source", "csv", **world)
    (tmp_path / "more.csv").write_text(rows(range(50, 60)))
    etl("run", "--source", "csv", **world)
    conn.execute("update unified_data set name = 'other' where external_id in ('c1', 'c55')")
    done = etl("replay", "--verify", "--run", "2", "--json", **world)
    assert differing(done) == [("c55", "changed", "name")]
    assert (done.objects[-1]["sources"][0]["compared"], done.objects[-1]["sources"][0]["unverified"]) == (10, 30)


def test_the_breaker_guards_a_replay(etl: Any, world: Any, conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    body = rows(range(30), lambda n: "cheap").encode()
    conn.execute("update raw_payloads set body = %s", [body])
    served = all_of(conn, SERVED, POSITIONS)
    done = etl("replay", "--json", **world)
    assert (done.code, done.objects[-1]["runs"][0]["status"]) == (3, "refused")
    assert all_of(conn, SERVED, POSITIONS) == served


def test_a_dry_run_counts_and_writes_nothing(etl: Any, world: Any, conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    conn.execute("update unified_data set name = 'other' where external_id = 'c1'")
    done = etl("replay", "--dry-run", "--json", **world)
    assert (done.code, done.objects[-1]["runs"][0]["records_updated"]) == (0, 1)
    assert conn.execute("select count(*) as n from etl_runs").fetchone() == {"n": 1}
    assert conn.execute("select name from unified_data where external_id = 'c1'").fetchone() == {"name": "other"}


def test_a_replay_and_a_run_keep_to_one_lease_and_a_verification_needs_none(etl: Any, world: Any, conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    begin_run(conn, "csv", "cli")
    assert etl("replay", **world).code == 5
    assert etl("replay", "--if-locked", "skip", **world).code == 0
    assert etl("replay", "--verify", **world).code == 0


def test_an_interrupted_run_goes_on_where_it_was_after_a_replay(etl: Any, world: Any, conn: Connection) -> None:
    assert etl("run", "--source", "csv", "--batch-size", "10", **world, ETL_FAIL_AFTER_N_RECORDS="10").code == 3
    position = conn.execute("select position from etl_checkpoints").fetchone()
    assert etl("replay", "--verify", **world).code == 0
    assert etl("replay", **world).code == 0
    assert conn.execute("select position from etl_checkpoints").fetchone() == position
    done = etl("run", "--source", "csv", "--json", **world)
    assert done.objects[-1]["runs"][0]["resumed_at"].startswith("record 11 of ")
    assert conn.execute("select count(*) as n from unified_data").fetchone() == {"n": 30}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_replay_that_is_stopped_in_the_middle_loses_nothing(
    etl: Any, world: Any, dsn: str, conn: Connection, number: signal.Signals
) -> None:
    etl("run", "--source", "csv", **world)
    served, position = all_of(conn, SERVED), all_of(conn, POSITIONS)
    conn.execute("update unified_data set name = 'other'")
    conn.execute("create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.1); return new; end'")
    conn.execute("create trigger slow before update on unified_data for each row execute function slow()")
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "replay"]
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, **world, "ETL_BATCH_SIZE": "10"}
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        while not conn.execute("select 1 from etl_runs where trigger = 'replay' and batches > 0").fetchall():
            assert process.poll() is None
        process.send_signal(number)
    conn.execute("drop trigger slow on unified_data")
    assert etl("replay", "--if-locked", "wait", **world).code == 0
    assert (all_of(conn, SERVED), all_of(conn, POSITIONS)) == (served, position)
    ended = {signal.SIGKILL: "abandoned", signal.SIGTERM: "cancelled"}[number]
    assert conn.execute("select status from etl_runs where trigger = 'replay' order by id").fetchall() == [
        {"status": ended},
        {"status": "success"},
    ]


def test_quarantine_is_as_it_was_decided_after_a_replay(etl: Any, world: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text(rows(range(30), lambda n: "cheap" if n < 2 else n))
    etl("run", "--source", "csv", **world)
    (tmp_path / "assets.csv").write_text(rows([0]))
    etl("run", "--source", "csv", **world)
    states = "select external_id, resolved_at is null as open from quarantined_records order by id"
    before = all_of(conn, states)
    assert before == [[{"external_id": "c0", "open": False}, {"external_id": "c1", "open": True}]]
    assert etl("replay", **world).code == 0
    assert all_of(conn, states) == before
    assert conn.execute("select price_usd::text from unified_data where external_id = 'c0'").fetchone() == {"price_usd": "0.5"}


def test_what_was_pruned_makes_a_verification_partial_and_says_so(etl: Any, world: Any, conn: Connection, tmp_path: Path) -> None:
    etl("run", "--source", "csv", **world)
    (tmp_path / "assets.csv").write_text(rows(range(20, 40)))
    etl("run", "--source", "csv", **world)
    conn.execute("update raw_payloads set fetched_at = fetched_at - interval '100 days' where run_id = 1")
    conn.execute("update etl_batches set committed_at = committed_at - interval '100 days' where run_id = 1")
    assert etl("prune", "--raw-older-than", "90d", **world).code == 0
    done = etl("replay", "--verify", "--json", **world)
    told = done.objects[-1]["sources"][0]
    assert (done.code, told["pruned"], told["unverified"], told["extra"]) == (0, 1, 30, 0)
    assert "rows not verified" in etl("replay", "--verify", **world).out


def test_a_verification_of_which_every_payload_was_pruned_says_so(etl: Any, world: Any, conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    conn.execute("update raw_payloads set fetched_at = fetched_at - interval '100 days'")
    conn.execute("update etl_batches set committed_at = committed_at - interval '100 days'")
    assert etl("prune", "--raw-older-than", "90d", **world).code == 0
    done = etl("replay", "--verify", "--json", **world)
    (told,) = done.objects[-1]["sources"]
    assert (done.code, told["source"], told["pruned"], told["compared"], told["unverified"]) == (0, "csv", 1, 0, 30)
    assert etl("replay", **world).code == 2


def test_rows_of_a_pruned_payload_are_vouched_for_by_no_other(etl: Any, world: Any, conn: Connection, upstream: Any) -> None:
    days = ["2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-04T00:00:00Z"]
    for number, (a, b) in enumerate([(days[1], days[1]), (days[0], days[1]), (days[1], days[2])]):
        upstream.answers["/g/coins/markets"] = coins(("a", 1 + number, a), ("b", 1 + number, b))
        assert etl("run", "--source", "coingecko", **world).code == 0
        conn.execute("update etl_checkpoints set position = '{}'")
    conn.execute("update raw_payloads set fetched_at = fetched_at - interval '100 days' where run_id = 2")
    conn.execute("update etl_batches set committed_at = committed_at - interval '100 days' where run_id = 2")
    assert etl("prune", "--raw-older-than", "90d", **world).code == 0
    done = etl("replay", "--source", "coingecko", "--verify", "--json", **world)
    assert (done.code, differing(done), done.objects[-1]["sources"][0]["unverified"]) == (0, [], 1)


@pytest.mark.parametrize(("price", "passed_by"), [("abc", 60), (-1, 0)])
def test_what_a_refused_run_kept_does_not_stand_in_the_way_of_a_replay(
    etl: Any, world: Any, conn: Connection, upstream: Any, price: Any, passed_by: int
) -> None:
    good = coins(*((f"g{n}", n + 1, "2026-01-01T00:00:00Z") for n in range(60)))
    upstream.answers["/g/coins/markets"] = good
    assert etl("run", "--source", "coingecko", **world).code == 0
    upstream.answers["/g/coins/markets"] = coins(*((f"g{n}", price, "2026-01-02T00:00:00Z") for n in range(60)))
    assert etl("run", "--source", "coingecko", **world).code == 3
    upstream.answers["/g/coins/markets"] = good.replace(b"2026-01-01", b"2026-01-03")
    assert etl("run", "--source", "coingecko", **world).code == 0
    kept = conn.execute("select count(*) as n from raw_payloads").fetchone()
    assert kept == {"n": 3}
    done = etl("replay", "--source", "coingecko", "--json", **world)
    told = done.objects[-1]["runs"][0]
    assert (done.code, told["records_extracted"], told["records_quarantined"]) == (0, 120 + passed_by, passed_by)
    assert etl("replay", "--source", "coingecko", "--verify", **world).code == 0


def test_a_dry_replay_counts_what_the_replay_then_does(etl: Any, world: Any, tmp_path: Path) -> None:
    for prices in (lambda n: n + 1, lambda n: 2 * (n + 1)):
        (tmp_path / "assets.csv").write_text(rows(range(5), prices))
        etl("run", "--source", "csv", **world)
    counted, done = (etl("replay", *dry, "--json", **world).objects[-1]["runs"][0] for dry in (["--dry-run"], []))
    assert (counted["records_updated"], counted["records_unchanged"]) == (done["records_updated"], done["records_unchanged"]) == (0, 10)


def refused_night(etl: Any, world: Any, upstream: Any, price: Any, **night: str) -> None:
    """A good run, one of which every price is as given, under other settings, and a good one again."""
    good = coins(*((f"g{n}", n + 1, "2026-01-01T00:00:00Z") for n in range(60)))
    bad = coins(*((f"g{n}", price, "2026-01-02T00:00:00Z") for n in range(60)))
    for body, environ in ((good, {}), (bad, night), (good.replace(b"2026-01-01", b"2026-01-03"), {})):
        upstream.answers["/g/coins/markets"] = body
        etl("run", "--source", "coingecko", **world, **environ)


NOTED = "select count(*) as drifts, (select count(*) from quarantined_records) as entries from schema_drift"


@pytest.mark.parametrize("policy", ["warn", "quarantine"])
def test_a_replay_over_a_payload_that_was_set_aside_adds_neither_an_entry_nor_a_drift(
    etl: Any, world: Any, conn: Connection, upstream: Any, policy: str
) -> None:
    refused_night(etl, world, upstream, "abc", ETL_DRIFT_POLICY=policy)
    before = all_of(conn, NOTED)
    assert before == [[{"drifts": 1, "entries": 1}]]
    for tries in (2, 3):
        assert etl("replay", "--source", "coingecko", **world, ETL_DRIFT_POLICY=policy).code == 0
        assert all_of(conn, NOTED) == before
        assert conn.execute("select attempts from quarantined_records").fetchall() == [{"attempts": tries}]
    assert etl("replay", "--source", "coingecko", "--verify", **world).code == 0


def test_a_payload_of_which_no_record_is_valid_is_passed_by_after_its_drift_was_accepted(
    etl: Any, world: Any, conn: Connection, upstream: Any
) -> None:
    refused_night(etl, world, upstream, "abc")
    conn.execute("update schema_drift set resolved_at = null")
    assert etl("drift", "accept", "1").code == 0
    for _ in range(2):
        done = etl("replay", "--source", "coingecko", "--json", **world)
        told = done.objects[-1]["runs"][0]
        assert (done.code, told["records_extracted"], told["records_quarantined"]) == (0, 180, 60)
        assert all_of(conn, NOTED) == [[{"drifts": 1, "entries": 1}]]


def test_a_payload_that_a_run_took_as_invalid_as_it_is_stands_not_in_the_way_of_a_replay(etl: Any, world: Any, upstream: Any) -> None:
    refused_night(etl, world, upstream, -1, ETL_MAX_INVALID_RATIO="1")
    done = etl("replay", "--source", "coingecko", "--json", **world)
    told = done.objects[-1]["runs"][0]
    assert (done.code, told["records_extracted"], told["records_quarantined"]) == (0, 180, 60)


def test_a_replay_that_finds_what_was_valid_invalid_stops_and_names_the_payload(
    etl: Any, world: Any, conn: Connection, upstream: Any
) -> None:
    refused_night(etl, world, upstream, 5)
    conn.execute("update raw_payloads set body = replace(encode(body, 'escape'), '\"current_price\": 5', '\"current_price\": -5')::bytea")
    conn.execute("update raw_payloads set sha256 = sha256(body)")
    done = etl("replay", "--source", "coingecko", LOG_FORMAT="console", **world)
    assert (done.code, "stored payload 2 of " in done.err) == (3, True)
    assert "60 of 60 records are invalid" in done.err
    assert "kasparro-etl replay --source coingecko --since" in done.err
