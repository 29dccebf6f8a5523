"""`kasparro-etl drift`: list, accept, undo; and what run and status say of drift, with real files and feeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.db import Connection

HEADER = "symbol,name,{price},market_cap,last_updated\n"


def rows(count: int) -> str:
    return "".join(f"S{n},Name {n},{n}.5,{n}000,2026-03-01T00:00:00Z\n" for n in range(count))


@pytest.fixture
def folder(tmp_path: Path, etl: Any) -> dict[str, str]:
    """A file of yesterday that was loaded, as the environment that points at its folder."""
    environ = {"CSV_PATHS": str(tmp_path / "*.csv")}
    (tmp_path / "day-01.csv").write_text(HEADER.format(price="price") + rows(60))
    assert etl("run", "--source", "csv", **environ).code == 0
    return environ


def test_a_file_refused_for_its_column_suggests_the_rename_and_loads_once_it_is_accepted(
    etl: Any, folder: dict[str, str], tmp_path: Path, conn: Connection
) -> None:
    (tmp_path / "day-02.csv").write_text(HEADER.format(price="prc_value") + rows(80))
    refused = etl("run", "--source", "csv", LOG_FORMAT="console", **folder)
    assert refused.code == 3
    assert "has no column with a price" in refused.err
    assert "price looks renamed to prc_value" in refused.err
    assert "kasparro-etl drift accept 1" in refused.err
    (event,) = etl("drift", "list", "--json").objects
    assert (event["field"], event["change"], event["suggested_field"]) == ("price", "renamed", "prc_value")
    assert event["stream"] == re.sub(r"\d+", "#", str(tmp_path / "day-01.csv"))
    assert etl("drift", "accept", "1").code == 0
    assert etl("run", "--source", "csv", **folder).code == 0
    assert conn.execute("select price_usd::text from unified_data where external_id = 's70-name-70'").fetchone() == {"price_usd": "70.5"}
    assert etl("drift", "list").err == "no field has changed\n"
    (tmp_path / "other.csv").write_text(HEADER.format(price="prc_value") + rows(5))
    assert etl("run", "--source", "csv", **folder).code == 3
    assert etl("drift", "undo", "1").code == 0
    (tmp_path / "day-03.csv").write_text(HEADER.format(price="prc_value") + rows(90))
    assert etl("run", "--source", "csv", **folder).code == 3


@pytest.mark.parametrize("word", ["price_usd", "Price (USD)", "current_price"])
def test_a_new_files_own_words_are_no_drift(etl: Any, tmp_path: Path, word: str) -> None:
    (tmp_path / "first.csv").write_text(HEADER.format(price=word) + rows(60))
    done = etl("run", "--source", "csv", "--json", CSV_PATHS=str(tmp_path / "*.csv"))
    assert (done.code, done.objects[0]["drift"]) == (0, 0)
    assert "drifted" not in done.err
    assert etl("drift", "list").err == "no field has changed\n"


def test_a_column_that_is_lost_is_warned_of_and_found_again_under_its_new_name(
    etl: Any, folder: dict[str, str], tmp_path: Path, conn: Connection
) -> None:
    text = (HEADER.format(price="price") + rows(60)).replace("market_cap", "mkt_worth")
    (tmp_path / "day-02.csv").write_text(text)
    done = etl("run", "--source", "csv", "--json", LOG_FORMAT="json", **folder)
    assert done.code == 0
    (warned,) = [line for line in done.logged if line["event"] == "schema drifted"]
    assert (warned["level"], warned["field"], warned["change"]) == ("warning", "market_cap", "renamed")
    assert (warned["suggested_field"], 0.6 <= warned["confidence"] <= 1) == ("mkt_worth", True)
    assert done.objects[0]["drift"] == 1
    assert etl("drift", "accept", str(warned["drift_id"])).code == 0
    (tmp_path / "day-03.csv").write_text(text.replace("000,2026-03-01", "111,2026-04-01"))
    assert etl("run", "--source", "csv", **folder).code == 0
    assert conn.execute("select market_cap_usd::text as cap from unified_data where external_id = 's7-name-7'").fetchone() == {
        "cap": "7111"
    }


def test_the_line_of_a_run_and_status_tell_of_drift(etl: Any, folder: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "day-02.csv").write_text(HEADER.format(price="price,listed") + rows(60).replace(".5,", ".5,yes,"))
    done = etl("run", "--source", "csv", LOG_FORMAT="console", **folder)
    assert "1 open change of upstream's fields: kasparro-etl drift list" in done.err
    assert [row["drift"] for row in etl("status", "--json").objects if row["source"] == "csv"] == [1]
    listed = etl("drift", "list", "--source", "csv").out
    assert [word in listed for word in ("listed", "added", "yes")] == [True] * 3
    assert (
        etl("drift", "accept", "1").err == "csv: listed is usual as added from the next run on; kasparro-etl drift undo 1 takes it back\n"
    )
    assert etl("drift", "list").out == ""
    assert "accepted" in etl("drift", "list", "--all").out
    assert etl("drift", "undo", "1").err == "csv: listed added is open again\n"


def test_another_upstream_is_refused_in_one_line(
    etl: Any, offline: dict[str, str], upstream: Any, payload: Callable[[str], bytes], conn: Connection
) -> None:
    tickers = [{**coin, "id": f"{coin['id']}-{n}"} for n in range(30) for coin in json.loads(payload("coinpaprika/tickers.json"))[:1]]
    markets = [{**coin, "id": f"{coin['id']}-{n}"} for n in range(30) for coin in json.loads(payload("coingecko/markets.json"))[:1]]
    upstream.answers["/p/tickers"] = tickers
    assert etl("run", "--source", "coinpaprika", **offline).code == 0
    upstream.answers["/p/tickers"] = markets
    done = etl("run", "--source", "coinpaprika", **offline)
    assert done.code == 3
    (row,) = conn.execute("select error_message from etl_runs where status = 'refused'").fetchall()
    assert row["error_message"].startswith("most fields it used to send are gone (")
    assert row["error_message"].endswith("`kasparro-etl drift accept 1`")
    assert conn.execute("select count(*) as n from schema_drift").fetchone() == {"n": 1}
    assert conn.execute("select count(*) as n from quarantined_records").fetchone() == {"n": 1}
    assert etl("drift", "accept", "1").code == 0


def test_a_feed_that_no_longer_dates_its_articles_is_an_event_of_that_feed(
    etl: Any, offline: dict[str, str], upstream: Any, conn: Connection
) -> None:
    def feed(date: str) -> bytes:
        items = "".join(f"<item><title>T {n}</title><link>https://a.example/{n}</link>{date}</item>" for n in range(30))
        return f"<rss version='2.0'><channel><title>t</title>{items}</channel></rss>".encode()

    kind = {"Content-Type": "application/rss+xml"}
    upstream.answers["/feed"] = (200, kind, feed("<pubDate>Sat, 01 Aug 2026 10:00:00 +0000</pubDate>"))
    assert etl("run", "--source", "rss", **offline).code == 0
    upstream.answers["/feed"] = (200, kind, feed(""))
    assert etl("run", "--source", "rss", **offline).code == 0
    rows = conn.execute("select stream, field, change from schema_drift order by field").fetchall()
    assert {"stream": offline["RSS_FEED_URLS"], "field": "published", "change": "missing"} in rows
    assert {row["change"] for row in rows} == {"missing"}


@pytest.mark.parametrize("args", [("accept", "99"), ("undo", "99")])
def test_a_number_that_is_none_of_a_drift_is_one_line(etl: Any, args: tuple[str, str]) -> None:
    done = etl("drift", *args)
    assert (done.code, "there is no drift 99: see kasparro-etl drift list" in done.err) == (2, True)


def test_a_change_is_dismissed_and_a_field_that_came_back_closes_its_own(etl: Any, folder: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "day-02.csv").write_text((HEADER.format(price="price") + rows(60)).replace(",market_cap", ",").replace("000,2026", ",2026"))
    assert etl("run", "--source", "csv", **folder).code == 0
    assert [(event["field"], event["change"]) for event in etl("drift", "list", "--json").objects] == [("market_cap", "missing")]
    closed = "csv: market_cap missing is closed; kasparro-etl drift undo 1 opens it again\n"
    assert etl("drift", "dismiss", "1").err == closed
    assert etl("drift", "list").err == "no field has changed\n"
    assert etl("drift", "undo", "1").code == 0
    (tmp_path / "day-03.csv").write_text(HEADER.format(price="price") + rows(70))
    assert "drift ended" in etl("run", "--source", "csv", LOG_FORMAT="console", **folder).err
    assert etl("drift", "list").err == "no field has changed\n"
    assert "ended" in etl("drift", "list", "--all").out
    assert etl("drift", "accept", "1").code == 2


def test_a_file_that_grew_by_a_row_still_suggests_the_rename_of_one_that_follows(etl: Any, folder: dict[str, str], tmp_path: Path) -> None:
    with (tmp_path / "day-01.csv").open("a") as file:
        file.write("S60,Name 60,60.5,60000,2026-03-01T00:00:00Z\n")
    assert etl("run", "--source", "csv", **folder).code == 0
    (tmp_path / "day-02.csv").write_text(HEADER.format(price="prc_value") + "S61,Name 61,61.5,61000,2026-03-01T00:00:00Z\n")
    assert etl("run", "--source", "csv", **folder).code == 3
    (event,) = etl("drift", "list", "--json").objects
    assert (event["field"], event["change"], event["suggested_field"]) == ("price", "renamed", "prc_value")


def test_the_list_ends_in_what_can_be_done_and_accepting_what_spoils_records_warns(
    etl: Any, folder: dict[str, str], tmp_path: Path, conn: Connection
) -> None:
    (tmp_path / "day-02.csv").write_text((HEADER.format(price="price") + rows(60)).replace(",market_cap", ",").replace("000,2026", ",2026"))
    assert etl("run", "--source", "csv", **folder).code == 0
    assert "missing: closes itself when the field is back; gone for good: kasparro-etl drift accept 1" in etl("drift", "list").err
    told = etl("drift", "accept", "1").err
    assert "market_cap is a field that is loaded: accepting it makes no record valid" in told
    assert "market_cap is a field" not in etl("drift", "undo", "1").err
