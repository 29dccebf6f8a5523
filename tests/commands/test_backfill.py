"""`kasparro-etl backfill` as a process: ranges and files, what stands in the tables, exit codes, and starting it again."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from shared.db import Connection

OHLCV = """Date,Open,High,Low,Close,Volume,Market Cap
26-Dec-18,"3,819.67","3,893.36","3,769.86","3,857.30","5,326,547,918","67,292,819,465"
25-Dec-18,"4,081.03","4,089.56","3,760.02","3,815.49",-,-
24-Dec-18,"4,000.33","4,271.79","4,000.33","null","7,240,968,501","71,221,064,235"
"""
TWENTY = ",".join("abcdefghijklmnopqrst")
POINTS = "select source, external_id, observed_at::text, price_usd::text, market_cap_usd::text from price_history order by 1, 2, 3"


def rows(conn: Connection, query: str = POINTS) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in conn.execute(query.encode()).fetchall()]


def daily(start: str, count: int) -> list[dict[str, Any]]:
    """Points as CoinPaprika sends them."""
    first = datetime.fromisoformat(start).replace(tzinfo=UTC)
    return [
        {"timestamp": f"{first + timedelta(days=n):%Y-%m-%dT%H:%M:%SZ}", "price": n + 0.5, "volume_24h": n, "market_cap": 0}
        for n in range(count)
    ]


def minutes(path: Path, count: int) -> Path:
    """A file of one asset's prices, a line a minute."""
    start = datetime(2026, 1, 30, tzinfo=UTC)
    path.write_text("date,close\n" + "".join(f"{start + timedelta(minutes=n):%Y-%m-%d %H:%M:%S},{n + 1}.5\n" for n in range(count)))
    return path


def ago(days: int) -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)


def test_a_price_history_is_loaded_for_the_asset_named_and_again_changes_nothing(etl: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "btc.csv").write_text(OHLCV)
    done = etl("backfill", "--file", "btc.csv", "--asset", "bitcoin", "--json")
    assert done.code == 0, done.err
    assert rows(conn) == [
        ("csv", "bitcoin", "2018-12-25 00:00:00+00", "3815.49", None),
        ("csv", "bitcoin", "2018-12-26 00:00:00+00", "3857.30", "67292819465"),
    ]
    (run,) = done.objects[-1]["runs"]
    assert (run["status"], run["records_extracted"], run["records_inserted"], run["records_quarantined"]) == ("partial", 3, 2, 1)
    before = rows(conn, "select xmin::text, ctid::text from price_history_2018_12")
    again = etl("backfill", "--file", "btc.csv", "--asset", "bitcoin", "--json")
    assert (again.code, again.objects[-1]["runs"], again.objects[-1]["chunks"]["done"]) == (0, [], 1)
    assert rows(conn, "select xmin::text, ctid::text from price_history_2018_12") == before
    assert rows(conn, "select trigger, status from etl_runs") == [("backfill", "partial")]


def test_the_same_bytes_packed_or_under_another_name_are_the_same_backfill(etl: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(OHLCV)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(OHLCV.encode()))
    assert etl("backfill", "--file", "b.csv.gz", "--asset", "bitcoin").code == 0
    assert etl("backfill", "--file", "a.csv", "--asset", "bitcoin", "--json").objects[-1]["runs"] == []
    assert len(rows(conn)) == 2


def test_several_packed_blocks_are_read_in_any_order(etl: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(minutes(tmp_path / "a.csv", 500).read_bytes()))
    done = etl("backfill", "--file", "a.csv.gz", "--asset", "a", "--json", ETL_BATCH_SIZE="40")
    assert (done.code, done.objects[-1]["chunks"]["done"]) == (0, 13)
    assert rows(conn, "select count(*), sum(price_usd)::int from price_history") == [(500, 125500)]


def test_decimal_commas_and_dotted_dates_are_read_and_a_volume_in_coins_is_left_out(etl: Any, conn: Connection, tmp_path: Path) -> None:
    text = '"Data","Último","Abertura","Máxima","Mínima","Vol.","Var%"\n"23.04.2022","39.623,0","39.700,1","39.9","39.1","3,33K","-0,20%"\n'
    (tmp_path / "pt.csv").write_text(text)
    done = etl("backfill", "--file", "pt.csv", "--asset", "bitcoin")
    assert done.code == 0, done.err
    assert rows(conn, "select observed_at::date::text, price_usd::text, volume_24h_usd from price_history") == [
        ("2022-04-23", "39623.0", None)
    ]
    assert "does not say that it is in US dollars" in done.err


def test_asset_files_are_loaded_as_the_csv_source_does(etl: Any, conn: Connection, tmp_path: Path) -> None:
    text = "id,symbol,name,price,last_updated\n" + "".join(
        f"c{n % 90},C{n % 90},Coin,{n},2026-03-01T00:{n // 90:02}:00Z\n" for n in range(400)
    )
    (tmp_path / "assets.csv").write_text(text)
    served = "select external_id, price_usd::text, source_updated_at::text from unified_data order by 1"
    assert etl("backfill", "--file", "assets.csv", ETL_BATCH_SIZE="30").code == 0
    backfilled, prices = rows(conn, served), rows(conn)
    conn.execute("truncate unified_data, price_history, raw_payloads")
    assert etl("run", "--source", "csv", CSV_PATHS=str(tmp_path / "assets.csv")).code == 0
    assert (rows(conn, served), rows(conn)) == (backfilled, prices)
    assert (len(backfilled), len(prices)) == (90, 400)


def test_undated_assets_are_loaded_in_the_order_of_the_file(etl: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("symbol,name,price\n" + "".join(f"C{n % 10},Coin,{n}\n" for n in range(300)))
    assert etl("backfill", "--file", "assets.csv", ETL_BATCH_SIZE="20").code == 0
    assert rows(conn, "select in_order from backfills") == [(True,)]
    assert rows(conn, "select price_usd::int from unified_data order by external_id") == [(n,) for n in range(290, 300)]


def test_a_file_that_cannot_be_loaded_is_named_and_the_others_are_loaded(etl: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("symbol,price\nBTC,1\n")
    (tmp_path / "bad.csv").write_text(OHLCV)
    done = etl("backfill", "--file", "good.csv", "bad.csv", "none.csv", "--json")
    assert done.code == 3
    assert [part.split(": ", 1)[1] for part in done.objects[-1]["not_loaded"]] == [
        "no such file: put one there, or name others in CSV_PATHS, or after --file",
        "is a price history that names no asset: load it with `kasparro-etl backfill --file PATH --asset ID`",
    ]
    assert len(rows(conn, "select 1 from unified_data")) == 1


def test_a_history_of_several_assets_can_belong_to_another_source(etl: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "many.csv").write_text("id,date,price\nbtc-bitcoin,2026-01-01,1\neth-ethereum,2026-01-01,2\n")
    assert etl("backfill", "--source", "coinpaprika", "--file", "many.csv").code == 0
    assert [(row[0], row[1]) for row in rows(conn)] == [("coinpaprika", "btc-bitcoin"), ("coinpaprika", "eth-ethereum")]
    assert rows(conn, "select 1 from unified_data") == []
    refused = etl("backfill", "--file", "many.csv", "--asset", "bitcoin")
    assert "names several assets (btc-bitcoin, eth-ethereum): leave --asset out" in refused.err


def test_a_range_is_loaded_in_windows_that_say_what_they_ask_for(etl: Any, upstream: Any, conn: Connection) -> None:
    upstream.answers["/p/tickers/a%2Fb/historical"] = daily("2025-12-30", 60)
    upstream.answers["/p/tickers/btc-bitcoin/historical"] = [*daily("2026-01-01", 20), *daily("2026-01-20", 1)]
    asked = ["backfill", "--source", "coinpaprika", "--from", "2026-01-01", "--to", "2026-01-21", "--assets", "btc-bitcoin,a/b"]
    done = etl(*asked, "--json", COINPAPRIKA_BASE_URL=f"{upstream.url}/p", ETL_BATCH_SIZE="15")
    assert done.code == 0, done.err
    queries = [parse_qs(request["query"]) for request in upstream.log]
    assert [(query["start"], query["end"]) for query in queries][:2] == [
        (["2026-01-16T00:00:00Z"], ["2026-01-21T00:00:00Z"]),
        (["2026-01-01T00:00:00Z"], ["2026-01-16T00:00:00Z"]),
    ]
    assert all((query["interval"], query["limit"], query["quote"]) == (["1d"], ["5000"], ["usd"]) for query in queries)
    assert rows(
        conn, "select external_id, count(*), min(observed_at)::date::text, count(market_cap_usd) as caps from price_history group by 1"
    ) == [
        ("a/b", 20, "2026-01-01", 0),
        ("btc-bitcoin", 20, "2026-01-01", 0),
    ]
    assert rows(conn, "select count(*), sum(records)::int, max(attempts) from backfill_chunks where state = 'done'") == [(4, 40, 1)]
    assert etl(*asked, COINPAPRIKA_BASE_URL=f"{upstream.url}/p", ETL_BATCH_SIZE="15").code == 0
    assert len(upstream.log) == 4


def test_what_a_plan_does_not_allow_is_asked_once_and_told_in_the_words_of_the_provider(etl: Any, upstream: Any, conn: Connection) -> None:
    words = "Getting historical data before 2025-11-21 is not allowed in this plan"

    def answer(request: dict[str, Any]) -> Any:
        start = datetime.fromisoformat(parse_qs(request["query"])["start"][0])
        return daily(f"{start:%Y-%m-%d}", 5) if start > ago(365) else (402, {}, json.dumps({"error": words}).encode())

    upstream.answers |= {f"/p/tickers/{asset}/historical": answer for asset in "ab"}
    asked = ["backfill", "--source", "coinpaprika", "--from", f"{ago(1100):%Y-%m-%d}", "--to", f"{ago(10):%Y-%m-%d}", "--assets", "a,b"]
    environ = {"COINPAPRIKA_BASE_URL": f"{upstream.url}/p"}
    done = etl(*asked, "--json", **environ)
    assert done.code == 3
    assert done.objects[-1]["chunks"] == {"total": 8, "done": 2, "failed": 0, "not_allowed": 6, "open": 0}
    assert len(upstream.log) == 3
    (run,) = done.objects[-1]["runs"]
    assert run["status"] == "failed"
    assert words in run["error_message"]
    assert rows(conn, "select count(*) from price_history") == [(10,)]
    assert (etl(*asked, **environ).code, len(upstream.log)) == (3, 3)
    assert (etl(*asked, "--retry-not-allowed", **environ).code, len(upstream.log)) == (3, 4)


def test_an_unknown_asset_fails_alone(etl: Any, upstream: Any, conn: Connection) -> None:
    upstream.answers["/p/tickers/a/historical"] = daily("2026-01-01", 3)
    asked = ["backfill", "--source", "coinpaprika", "--from", "2026-01-01", "--to", "2026-01-31", "--assets", "nope,a"]
    done = etl(*asked, "--json", COINPAPRIKA_BASE_URL=f"{upstream.url}/p", ETL_BATCH_SIZE="10")
    assert (done.code, done.objects[-1]["chunks"]["failed"], done.objects[-1]["chunks"]["done"]) == (3, 3, 3)
    assert (
        "3 chunks failed: coinpaprika knows no asset nope (it answered 404): check the id" in done.objects[-1]["runs"][0]["error_message"]
    )
    assert len(upstream.log) == 4


def test_a_coingecko_chart_gives_one_point_a_day_of_the_days_asked_for(etl: Any, upstream: Any, conn: Connection) -> None:
    days = [int(ago(n).timestamp()) * 1000 for n in range(60, 2, -1)]
    prices = [[days[1], 2.5], *[[day, n + 1.5] for n, day in enumerate(days)], [days[9] + 3_600_000, 99]]
    chart = {"prices": prices, "market_caps": [[day, 0] for day in days], "total_volumes": [[day, 7] for day in days]}
    upstream.answers["/g/coins/bitcoin/market_chart/range"] = chart
    asked = ["backfill", "--source", "coingecko", "--from", f"{ago(60):%Y-%m-%d}", "--to", f"{ago(50):%Y-%m-%d}", "--assets", "bitcoin"]
    done = etl(*asked, COINGECKO_BASE_URL=f"{upstream.url}/g")
    assert done.code == 0, done.err
    query = parse_qs(upstream.log[0]["query"])
    assert int(query["to"][0]) - int(query["from"][0]) >= 91 * 86400
    assert rows(conn, "select price_usd::text, market_cap_usd, volume_24h_usd::text from price_history order by observed_at") == [
        (f"{n + 1}.5", None, "7") for n in range(10)
    ]


def test_a_point_that_cannot_be_read_is_quarantined_with_its_bytes(etl: Any, upstream: Any, conn: Connection) -> None:
    points = [*daily("2026-01-01", 2), {"timestamp": "2026-01-03T00:00:00Z", "price": None}, {"timestamp": "soon", "price": 1}]
    upstream.answers["/p/tickers/a/historical"] = points
    asked = ["backfill", "--source", "coinpaprika", "--from", "2026-01-01", "--to", "2026-01-31", "--assets", "a"]
    done = etl(*asked, "--json", COINPAPRIKA_BASE_URL=f"{upstream.url}/p")
    assert (done.code, done.objects[-1]["runs"][0]["status"]) == (0, "partial")
    found = rows(conn, "select convert_from(record, 'utf8'), errors->0->>'field' from quarantined_records order by id")
    assert sorted((json.loads(record)["timestamp"], field) for record, field in found) == [
        ("2026-01-03T00:00:00Z", "price"),
        ("soon", "at"),
    ]


def test_a_plan_is_shown_and_nothing_is_written_or_asked(etl: Any, upstream: Any, conn: Connection) -> None:
    asked = [
        "backfill",
        "--source",
        "coinpaprika",
        "--from",
        f"{ago(800):%Y-%m-%d}",
        "--to",
        f"{ago(10):%Y-%m-%d}",
        "--assets",
        "a,b",
        "--plan",
    ]
    environ = {"COINPAPRIKA_BASE_URL": f"{upstream.url}/p", "COINPAPRIKA_RATE_LIMIT": "4/60"}
    done = etl(*asked, "--json", **environ)
    summary = done.objects[-1]
    assert (done.code, summary["chunks"], summary["calls"], summary["not_allowed"], summary["seconds"]) == (0, 6, 6, 4, 180.0)
    assert [chunk["allowed"] for chunk in done.objects[:-1]] == [True, False, False] * 2
    shown = etl(*asked, **environ).out
    assert "6 chunks, 6 calls, about 3 min" in shown
    assert "4 of them will be refused: the free plan of CoinPaprika gives daily points of the last 365 days" in shown
    assert upstream.log == []
    for table in ("backfills", "backfill_chunks", "etl_runs", "price_history"):
        assert rows(conn, f"select 1 from {table}") == []


def test_the_first_assets_by_rank_are_those_of_the_last_run(etl: Any, offline: dict[str, str], upstream: Any, conn: Connection) -> None:
    asked = ["backfill", "--source", "coinpaprika", "--from", "2026-01-01", "--to", "2026-01-31", "--top", "2", "--plan", "--json"]
    refused = etl(*asked, **offline)
    assert (refused.code, "run `kasparro-etl run --source coinpaprika` first" in refused.err) == (3, True)
    assert etl("run", "--source", "coinpaprika", **offline).code == 0
    ranked = [row[0] for row in rows(conn, "select external_id from unified_data order by rank limit 2")]
    assert [chunk["asset"] for chunk in etl(*asked, **offline).objects[:-1]] == ranked


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (("--source", "coinpaprika"), "with --from and --to"),
        (("--source", "csv", "--from", "2026-01-01", "--to", "2026-01-02"), "name --file"),
        (("--source", "coinpaprika", "--from", "2026-01-02", "--to", "2026-01-02"), "--from must lie before --to"),
        (("--source", "coinpaprika", "--from", "2026-01-02", "--to", "2999-01-02"), "--to lies in the future"),
        (("--source", "coinpaprika", "--from", "1970-01-02", "--to", "2020-01-02"), "not before 2009-01-01"),
        (("--source", "coinpaprika", "--from", "soon", "--to", "2020-01-02"), "'soon' is not a date: write 2026-01-31"),
        (("--file", "a.csv", "--from", "2020-01-02"), "leave --from, --to, --assets and --top out"),
        (("a.csv",), "name files with --file"),
        (("--source", "coingecko", "--from", "2010-01-01", "--to", "2025-01-01", "--interval", "5m", "--assets", TWENTY), "pass --yes"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(etl: Any, told: tuple[str, ...], reason: str) -> None:
    done = etl("backfill", *told)
    assert done.code == 2
    assert reason in " ".join(done.err.split())


def test_a_point_that_a_run_observed_stays_and_the_later_told_of_two_wins(etl: Any, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "live.csv").write_text("id,price,last_updated\nbitcoin,100,2026-01-01T00:00:00Z\n")
    etl("run", "--source", "csv", CSV_PATHS="live.csv")
    for name, price, mtime in (("new", 2, 2_000_000_000), ("old", 1, 1_000_000_000), ("newer", 3, 2_100_000_000)):
        path = tmp_path / f"{name}.csv"
        path.write_text(f"date,price\n2026-01-01,{price}\n2026-01-02,{price}\n")
        os.utime(path, (mtime, mtime))
    for name, kept in (("new", 2), ("old", 2), ("newer", 3)):
        assert etl("backfill", "--file", f"{name}.csv", "--asset", "bitcoin").code == 0
        assert rows(conn, "select price_usd::int from price_history order by observed_at") == [(100,), (kept,)]
    counts = "select records_inserted, records_updated, records_unchanged from etl_runs where trigger = 'backfill' order by id"
    assert rows(conn, counts) == [(1, 0, 1), (0, 0, 2), (0, 1, 1)]


def test_a_stop_ends_after_the_chunk_and_the_same_command_goes_on(dsn: str, etl: Any, conn: Connection, tmp_path: Path) -> None:
    minutes(tmp_path / "a.csv", 4000)
    slow = "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.2); return null; end $$"
    conn.execute(slow.encode())
    conn.execute(b"create trigger slow after insert on raw_csv_data execute function slow()")
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, "ETL_BATCH_SIZE": "100"}
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "backfill", "--file", str(tmp_path / "a.csv"), "--asset", "a"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        while not conn.execute("select 1 from backfill_chunks where state = 'done'").fetchall():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 143
    conn.execute("drop trigger slow on raw_csv_data")
    assert rows(conn, "select status from etl_runs") == [("cancelled",)]
    assert rows(conn, "select 1 from backfill_workers") == []
    assert etl("backfill", "--file", "a.csv", "--asset", "a").code == 0
    assert rows(conn, "select count(*) from price_history") == [(4000,)]
    assert rows(conn, "select sum(records_inserted)::int from etl_runs") == [(4000,)]
