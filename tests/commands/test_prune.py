"""`kasparro-etl prune`: old raw payloads go, what anything needs stays, what is known of them too."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl import prune
from etl.prune import drop_prices, list_old_prices, list_prunable
from etl.stop import Stop
from shared.db import Connection, connect
from shared.errors import DatabaseError

ROWS = "id,symbol,name,price\nbtc,BTC,Bitcoin,1.5\n"


@pytest.fixture
def world(offline: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "assets.csv").write_text(ROWS)
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv")}


def age(conn: Connection, days: int = 100) -> None:
    conn.execute("update raw_payloads set fetched_at = fetched_at - make_interval(days => %s)", [days])
    conn.execute("update etl_batches set committed_at = committed_at - make_interval(days => %s)", [days])


def kept(conn: Connection) -> list[str]:
    return [row["source"] for row in conn.execute("select source from raw_payloads order by id").fetchall()]


def test_old_payloads_go_rows_stay_and_what_is_known_of_them_is_kept(etl: Any, world: dict[str, str], conn: Connection) -> None:
    etl("run", "--source", "all", **world)
    age(conn)
    (row,) = conn.execute("select id, url, sha256 from raw_payloads where source = 'csv'").fetchall()
    assert row["sha256"] == hashlib.sha256(ROWS.encode()).digest()
    done = etl("prune", "--raw-older-than", "90d", "--json")
    assert (done.code, done.objects[-1]["payloads"], done.objects[-1]["bytes"] > 0) == (0, 4, True)
    assert kept(conn) == []
    assert conn.execute("select id, url, sha256 from pruned_payloads where source = 'csv'").fetchall() == [row]
    assert conn.execute("select count(*) as n from unified_data u join pruned_payloads p on p.id = u.raw_id").fetchone() == {"n": 9}
    assert "(pruned)" in etl("runs", "show", "3").out
    assert etl("prune", "--raw-older-than", "90d").err == "nothing is that old\n"


def test_a_dry_run_says_how_many_and_deletes_nothing(etl: Any, world: dict[str, str], conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    age(conn)
    done = etl("prune", "--raw-older-than", "90d", "--dry-run")
    assert (done.code, "csv: 1 payloads" in done.out, "would be deleted" in done.out) == (0, True, True)
    assert kept(conn) == ["csv"]


def test_what_is_young_or_was_loaded_again_lately_stays(etl: Any, world: dict[str, str], conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    assert etl("prune", "--raw-older-than", "1d").err == "nothing is that old\n"
    age(conn)
    etl("run", "--source", "csv", "--full-refresh", **world)
    assert etl("prune", "--raw-older-than", "90d").err == "nothing is that old\n"
    assert kept(conn) == ["csv"]


def test_what_an_open_quarantine_entry_needs_stays_until_it_is_resolved(
    etl: Any, world: dict[str, str], conn: Connection, tmp_path: Path
) -> None:
    (tmp_path / "assets.csv").write_text(ROWS + "eth,ETH,Ether,cheap\n")
    etl("run", "--source", "csv", **world)
    age(conn)
    etl("prune", "--raw-older-than", "90d")
    assert kept(conn) == ["csv"]
    conn.execute("update quarantined_records set resolved_at = now()")
    etl("prune", "--raw-older-than", "90d")
    assert kept(conn) == []


def test_what_an_interrupted_run_stands_in_stays(etl: Any, world: dict[str, str], conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text(ROWS + "eth,ETH,Ether,2\n")
    etl("run", "--source", "csv", **world, ETL_FAIL_AFTER_N_RECORDS="1")
    age(conn)
    etl("prune", "--raw-older-than", "90d")
    assert kept(conn) == ["csv"]
    assert etl("run", "--source", "csv", **world).code == 0


def test_payloads_go_in_bounded_transactions(
    etl: Any, world: dict[str, str], conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for price in range(5):
        (tmp_path / "assets.csv").write_text(f"{ROWS}eth,ETH,Ether,{price}\n")
        etl("run", "--source", "csv", **world)
    age(conn)
    monkeypatch.setattr(prune, "AT_ONCE", 2)
    assert [one.payloads for one in list_prunable(conn, 86_400)] == [5]
    assert [part.payloads for part in prune.prune(conn, "csv", 86_400, Stop())] == [2, 2, 1]


def test_a_payload_that_comes_again_after_it_was_pruned_is_kept_anew(etl: Any, world: dict[str, str], conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    age(conn)
    etl("prune", "--raw-older-than", "90d")
    assert etl("run", "--source", "csv", "--full-refresh", **world).code == 0
    assert kept(conn) == ["csv"]
    assert etl("replay", "--verify", "--source", "csv").code == 0


@pytest.mark.parametrize("wrong", ["90", "d", "90x", "-1d", "0d", "1d2"])
def test_an_age_that_is_none_is_exit_2(etl: Any, wrong: str) -> None:
    done = etl("prune", "--raw-older-than", wrong)
    assert (done.code, "Traceback" in done.err) == (2, False)


PRICE = "insert into price_history (source, external_id, observed_at, price_usd, run_id) values ('csv', 'a', %s, 1, 1)"
OLD = ["prune", "--price-history-older-than", "60d"]


@pytest.fixture
def months(conn: Connection) -> list[str]:
    """A point in each of the last six months, one of 2001, and one beside its month; the names of those that ended 60 days ago."""
    now = datetime.now(UTC)
    first = now.replace(day=1)
    starts = [first := (first - timedelta(days=1)).replace(day=1) for _ in range(6)]
    conn.execute("select ensure_price_history(%s::date[])", [starts[:5]])
    for at in (*starts, datetime(2001, 1, 1, tzinfo=UTC), now):
        conn.execute(PRICE.encode(), [at])
    return [
        "before 2009",
        *(f"{at:%Y-%m}" for at in reversed(starts) if (at + timedelta(days=32)).replace(day=1) < now - timedelta(days=60)),
    ]


def prices(conn: Connection) -> int:
    return int((conn.execute("select count(*) as n from price_history").fetchone() or {})["n"])


def test_old_months_of_price_history_are_told_then_dropped_whole(etl: Any, conn: Connection, months: list[str]) -> None:
    told = etl(*OLD, "--dry-run", "--json")
    assert {row["month"] for row in told.objects[:-1]} == set(months) - {months[1]}  # that one lies beside the months still
    assert (told.code, prices(conn)) == (0, 8)
    done = etl(*OLD, "--yes", "--json")
    assert (done.code, [row["month"] for row in done.objects[:-1]], done.objects[-1]["months"]) == (0, months, len(months))
    assert prices(conn) == 8 - len(months)
    assert etl(*OLD, "--yes").err == "nothing is that old\n"


def test_price_history_is_not_dropped_unasked_nor_by_who_does_not_own_it(etl: Any, conn: Connection, months: list[str]) -> None:
    for args, words in ((OLD, "pass --yes"), (["prune"], "nothing to prune")):
        told = etl(*args)
        assert (told.code, words in told.err, prices(conn)) == (2, True, 8)
    stop = Stop()
    found = [replace(month, ours=False) for month in list_old_prices(conn, 60 * 86400)]
    with pytest.raises(DatabaseError, match="only the owner"):
        list(drop_prices(conn, found, stop))
    assert prices(conn) == 8


def test_a_month_in_use_is_waited_for_and_told_when_it_stays_so(
    conn: Connection, dsn: str, months: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "TRIES", 2)
    monkeypatch.setattr(prune, "RETRY", 0.01)
    with connect(dsn, "reader") as reader, reader.transaction():
        reader.execute("select count(*) from price_history")
        with pytest.raises(DatabaseError, match="was in use all the time, before 2009 is still there"):
            list(drop_prices(conn, list_old_prices(conn, 60 * 86400), Stop()))
    assert prices(conn) == 8
