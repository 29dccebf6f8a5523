"""`kasparro-etl quarantine`: list, show, retry, dismiss, export."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.lease import begin_run
from etl.sources.csv_files.blocks import BLOCK
from shared.db import Connection


@pytest.fixture
def loaded(etl: Any, tmp_path: Path) -> dict[str, str]:
    """A file of which two records are quarantined, as the environment that points at it."""
    (tmp_path / "a.csv").write_text('id,symbol,name,price\nbtc,BTC,Bitcoin,1.5\neth,ETH,Ether,"cheap"\ndoge,DOGE,Doge,-1\n')
    environ = {"CSV_PATHS": str(tmp_path / "*.csv")}
    assert etl("run", "--source", "csv", **environ).code == 0
    return environ


def test_entries_are_listed_with_every_reason(etl: Any, loaded: dict[str, str]) -> None:
    done = etl("quarantine", "list")
    assert done.code == 0
    assert [line.split()[1:3] for line in done.out.splitlines()] == [["SOURCE", "RECORD"], ["csv", "doge"], ["csv", "eth"]]
    assert "price: expected a number in US dollars" in done.out
    assert [row["external_id"] for row in etl("quarantine", "list", "--json", "--limit", "1").objects] == ["doge"]
    assert etl("quarantine", "list", "--source", "rss").err == "nothing is quarantined\n"


def test_an_entry_is_shown_with_the_record_as_upstream_sent_it(etl: Any, loaded: dict[str, str]) -> None:
    (entry,) = etl("quarantine", "show", "1", "--json").objects
    assert (entry["record"], entry["raw_position"], entry["attempts"]) == ('eth,ETH,Ether,"cheap"\n', 1, 1)
    assert 'eth,ETH,Ether,"cheap"' in etl("quarantine", "show", "1").out
    missing = etl("quarantine", "show", "99")
    assert (missing.code, "there is no entry 99: see kasparro-etl quarantine list" in missing.err) == (2, True)


def test_what_still_does_not_validate_counts_up_and_exits_3(etl: Any, loaded: dict[str, str], conn: Connection) -> None:
    before = conn.execute("select position from etl_checkpoints where source = 'csv'").fetchone()
    done = etl("quarantine", "retry", "--json")
    assert (done.code, {row["source"]: row["still_invalid"] for row in done.objects}["csv"]) == (3, 2)
    assert conn.execute("select attempts, resolved_at from quarantined_records").fetchall() == [{"attempts": 2, "resolved_at": None}] * 2
    assert conn.execute("select position from etl_checkpoints where source = 'csv'").fetchone() == before


def test_what_validates_by_now_is_loaded_and_resolved(etl: Any, loaded: dict[str, str], conn: Connection) -> None:
    conn.execute("alter table unified_data add constraint no_ape check (external_id <> 'ape')")
    file = Path(loaded["CSV_PATHS"].replace("*", "a"))
    file.write_text(file.read_text() + "ape,APE,Ape,2.5\n")
    etl("run", "--source", "csv", **loaded)
    assert conn.execute("select count(*) as n from quarantined_records where resolved_at is null").fetchone() == {"n": 3}
    conn.execute("alter table unified_data drop constraint no_ape")
    assert etl("quarantine", "retry", "3", "--source", "csv").err == "csv: 1 loaded, 0 still invalid\n"
    assert conn.execute("select price_usd::text, raw_position from unified_data where external_id = 'ape'").fetchone() == {
        "price_usd": "2.5",
        "raw_position": 0,
    }
    assert conn.execute("select resolved_at is not null as done from quarantined_records where id = 3").fetchone() == {"done": True}
    assert [row["id"] for row in etl("quarantine", "list", "--json").objects] == [2, 1]
    assert [row["id"] for row in etl("quarantine", "list", "--json", "--all").objects] == [3, 2, 1]


def test_equal_bytes_under_another_header_are_retried_under_their_own(etl: Any, tmp_path: Path, conn: Connection) -> None:
    name = "Coin".ljust(BLOCK * 3 // 2 // 10_000 - 12, "x")  # a block and a half
    rows = "".join(f"c{n},{name},{n},7\n" for n in range(10_000)) + "bad,Bad,1,2\n"
    (tmp_path / "a.csv").write_text("id,name,price,market_cap\n" + rows)
    (tmp_path / "b.csv").write_text("id,name,market_cap,price\n" + rows)
    conn.execute("alter table unified_data add constraint no_bad check (external_id <> 'bad')")
    assert etl("run", "--source", "csv", CSV_PATHS=f"{tmp_path}/a.csv").code == 0
    assert etl("run", "--source", "csv", CSV_PATHS=f"{tmp_path}/b.csv").code == 0
    conn.execute("alter table unified_data drop constraint no_bad")
    assert conn.execute("select count(*) as n, count(distinct sha256) as digests from raw_csv_data").fetchone() == {"n": 4, "digests": 3}
    assert etl("quarantine", "retry").code == 0
    assert conn.execute("select price_usd::int as price from unified_data where external_id = 'bad'").fetchone() == {"price": 2}


def test_a_source_that_is_running_is_not_retried(etl: Any, loaded: dict[str, str], conn: Connection) -> None:
    begin_run(conn, "csv", "cli")
    done = etl("quarantine", "retry")
    assert (done.code, len(done.err.splitlines())) == (5, 1)


def test_entries_are_exported_one_object_a_line(etl: Any, loaded: dict[str, str]) -> None:
    done = etl("quarantine", "export")
    assert [row["record"] for row in done.objects] == ["doge,DOGE,Doge,-1\n", 'eth,ETH,Ether,"cheap"\n']


def test_a_bad_point_of_an_assets_history_is_not_mended_by_its_price_of_today(etl: Any, tmp_path: Path, conn: Connection) -> None:
    (tmp_path / "history.csv").write_text("date,price\n2026-01-02,1.5\n2026-01-03,oops\n2026-01-04,2.5\n")
    etl("backfill", "--file", str(tmp_path / "history.csv"), "--asset", "foo")
    (tmp_path / "assets.csv").write_text("id,symbol,name,price\nfoo,FOO,Foo,3\n")
    assert etl("run", "--source", "csv", CSV_PATHS=str(tmp_path / "assets.csv")).code == 0
    assert conn.execute("select resolved_at from quarantined_records").fetchall() == [{"resolved_at": None}]
    tried = etl("quarantine", "retry")
    assert tried.code == 3
    assert tried.err.startswith("csv: 0 loaded, 1 still invalid: see `kasparro-etl quarantine list`")
    assert tried.err.endswith("`kasparro-etl quarantine dismiss ID`\n")
    assert conn.execute("select attempts, resolved_at from quarantined_records").fetchall() == [{"attempts": 2, "resolved_at": None}]


POINTS = (
    "select source, external_id, observed_at::date::text, price_usd::text, backfilled_at is not null from price_history order by 1, 2, 3"
)


@pytest.fixture
def unlucky(conn: Connection) -> Connection:
    """A history that refuses a price of 666 for now."""
    conn.execute("alter table price_history add constraint unlucky check (price_usd <> 666)")
    return conn


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("date,price\n2026-01-02,1.5\n2026-01-03,666\n", ["--asset", "foo"]),
        ("id,symbol,name,date,price\nfoo,FOO,Foo,2026-01-02,1.5\nfoo,FOO,Foo,2026-01-03,666\n", ["--source", "coinpaprika"]),
    ],
)
def test_a_point_of_a_files_history_is_loaded_into_history_once_it_validates(
    etl: Any, tmp_path: Path, unlucky: Connection, text: str, args: list[str]
) -> None:
    (tmp_path / "history.csv").write_text(text)
    told = etl("backfill", "--file", "history.csv", *args)
    source = args[1] if args[0] == "--source" else "csv"
    assert '"records_quarantined": 1' in told.err
    assert etl("quarantine", "retry").code == 3
    unlucky.execute("alter table price_history drop constraint unlucky")
    assert etl("quarantine", "retry").err == f"{source}: 1 loaded, 0 still invalid\n"
    found = [tuple(row.values()) for row in unlucky.execute(POINTS.encode()).fetchall()]
    assert found == [(source, "foo", "2026-01-02", "1.5", True), (source, "foo", "2026-01-03", "666", True)]
    assert unlucky.execute("select attempts, resolved_at is null as open from quarantined_records").fetchall() == [
        {"attempts": 3, "open": False}
    ]
    assert unlucky.execute("select count(*) as n from unified_data").fetchone() == {"n": 0}
    last = unlucky.execute("select trigger, status, records_inserted as n from etl_runs order by id desc limit 1").fetchone()
    assert last == {"trigger": "replay", "status": "success", "n": 1}
    assert etl("replay", "--verify").code == 2


def test_points_of_several_assets_with_the_same_bytes_are_retried_each(
    etl: Any, offline: dict[str, str], upstream: Any, unlucky: Connection
) -> None:
    day = datetime.now(UTC).date() - timedelta(days=3)
    point = {"timestamp": f"{day}T00:00:00Z", "price": 666, "volume_24h": 1, "market_cap": 1}
    upstream.answers |= {f"/p/tickers/{name}/historical": [point] for name in ("a", "b")}
    asked = ["--source", "coinpaprika", "--from", str(day), "--to", str(day + timedelta(days=1)), "--assets", "a,b"]
    assert etl("backfill", *asked, **offline).code == 0
    unlucky.execute("alter table price_history drop constraint unlucky")
    assert etl("quarantine", "retry", **offline).err == "coinpaprika: 2 loaded, 0 still invalid\n"
    found = [tuple(row.values()) for row in unlucky.execute(POINTS.encode()).fetchall()]
    assert found == [("coinpaprika", name, str(day), "666", True) for name in ("a", "b")]


def test_a_retried_point_takes_no_place_of_one_that_a_run_observed(etl: Any, tmp_path: Path, unlucky: Connection) -> None:
    (tmp_path / "history.csv").write_text("date,price\n2026-01-03,666\n")
    etl("backfill", "--file", "history.csv", "--asset", "foo")
    unlucky.execute("alter table price_history drop constraint unlucky")
    (tmp_path / "assets.csv").write_text("id,symbol,name,price,last_updated\nfoo,FOO,Foo,5,2026-01-03T00:00:00Z\n")
    assert etl("run", "--source", "csv", CSV_PATHS=str(tmp_path / "assets.csv")).code == 0
    assert etl("quarantine", "retry").code == 0
    assert [row["price_usd"] for row in unlucky.execute("select price_usd::text from price_history").fetchall()] == ["5"]


def test_what_will_never_be_valid_is_closed_with_its_reason_and_opens_again_when_it_comes_back(
    etl: Any, loaded: dict[str, str], conn: Connection
) -> None:
    assert "pass --yes" in etl("quarantine", "dismiss", "1").err
    done = etl("quarantine", "dismiss", "1", "--yes", "--reason", "a bad night")
    assert (done.code, done.err) == (0, "1 closed: kasparro-etl quarantine list --all shows why\n")
    assert [row["id"] for row in etl("quarantine", "list", "--json").objects] == [2]
    (entry,) = etl("quarantine", "show", "1", "--json").objects
    assert (entry["record"], entry["errors"][-1]["reason"]) == ('eth,ETH,Ether,"cheap"\n', "dismissed: a bad night")
    again = etl("quarantine", "dismiss", "1", "2", "--yes")
    assert (again.code, "no entry is open under 1, none was closed" in again.err) == (2, True)
    conn.execute("update etl_checkpoints set position = '{}'")
    assert etl("run", "--source", "csv", **loaded).code == 0
    assert [row["id"] for row in etl("quarantine", "list", "--json").objects] == [2, 1]
    assert "dismissed" not in str(etl("quarantine", "show", "1", "--json").objects[0]["errors"])


def test_no_entry_is_closed_when_one_of_them_is_not_open(etl: Any, loaded: dict[str, str]) -> None:
    assert etl("quarantine", "dismiss", "2", "99", "--yes").code == 2
    assert [row["id"] for row in etl("quarantine", "list", "--json").objects] == [2, 1]


def test_what_a_retry_takes_of_a_refused_payload_is_noted_where_it_stands(
    etl: Any, offline: dict[str, str], upstream: Any, conn: Connection
) -> None:
    coin = {"symbol": "x", "name": "X", "last_updated": "2026-01-01T00:00:00Z"}
    upstream.answers["/g/coins/markets"] = [{"id": f"g{n}", "current_price": n if n < 30 else -n, **coin} for n in range(60)]
    assert etl("run", "--source", "coingecko", **offline).code == 3
    conn.execute("update raw_payloads set body = replace(encode(body, 'escape'), '-40', '40')::bytea")
    tried = etl("quarantine", "retry", **offline)
    assert tried.err.startswith("coingecko: 1 loaded, 29 still invalid: see ")
    places = "select first_position, next_position, inserted from etl_batches where raw_id = 1 order by 1"
    assert [tuple(row.values()) for row in conn.execute(places.encode())] == [(30, 60, 1)]
    done = etl("replay", "--verify", "--source", "coingecko", **offline)
    assert (done.code, " 1 compared" in done.out) == (0, True)
