"""`GET /assets/{source}/{external_id}/history`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from shared.db import Connection

PRICES = """
insert into price_history (source, external_id, observed_at, price_usd, market_cap_usd, volume_24h_usd, run_id)
select 'csv', 'bitcoin', timestamptz '2026-01-30 22:10Z' + n * interval '10 minutes', 100 + n % 7 + 0.10, n, n * 2, 1
from generate_series(0, 49) n
"""


@pytest.fixture
def prices(conn: Connection, filled: None) -> None:
    """Fifty prices, ten minutes apart, over the end of a month."""
    conn.execute("delete from price_history")
    conn.execute("select ensure_price_history(array['2026-01-01', '2026-02-01']::date[])")
    conn.execute(PRICES)


def walk(client: FlaskClient, address: str | None) -> Iterator[dict[str, Any]]:
    """Every price from one address on, page after page."""
    while address:
        page = client.get(address).get_json()
        yield from page["data"]
        address = page["paging"]["next"]


def test_raw_prices_are_listed_oldest_first_digit_for_digit(client: FlaskClient, prices: None) -> None:
    answer = client.get("/assets/csv/bitcoin/history?limit=2")
    first = {"observed_at": "2026-01-30T22:10:00Z", "price_usd": 100.10, "market_cap_usd": 0, "volume_24h_usd": 0}
    assert answer.get_json()["data"][0] == first
    assert '"price_usd":100.10,' in answer.text
    assert answer.headers["Link"] == f'<{answer.get_json()["paging"]["next"]}>; rel="next"'


@pytest.mark.parametrize("interval", ["raw", "1h", "1d"])
def test_pages_add_up_to_the_whole(client: FlaskClient, conn: Connection, prices: None, interval: str) -> None:
    conn.execute("delete from price_history where observed_at >= '2026-01-31 00:00Z' and observed_at < '2026-01-31 03:15Z'")
    whole = client.get(f"/assets/csv/bitcoin/history?interval={interval}").get_json()
    assert whole["paging"]["next"] is None
    for limit in (1, 2, 3):
        assert list(walk(client, f"/assets/csv/bitcoin/history?interval={interval}&limit={limit}")) == whole["data"]


def test_an_hour_opens_with_its_first_price_and_closes_with_its_last(client: FlaskClient, prices: None) -> None:
    hours = client.get("/assets/csv/bitcoin/history?interval=1h").get_json()["data"]
    assert [hour["observed_at"][11:13] for hour in hours] == ["22", "23", "00", "01", "02", "03", "04", "05", "06"]
    assert hours[1] == {
        "observed_at": "2026-01-30T23:00:00Z",
        "open": 105.10,
        "high": 106.10,
        "low": 100.10,
        "close": 103.10,
        "volume_24h_usd": 20,
        "prices": 6,
    }
    assert sum(hour["prices"] for hour in hours) == 50


def test_days_are_those_of_utc(client: FlaskClient, prices: None) -> None:
    days = client.get("/assets/csv/bitcoin/history?interval=1d").get_json()["data"]
    assert [(day["observed_at"], day["prices"]) for day in days] == [("2026-01-30T00:00:00Z", 11), ("2026-01-31T00:00:00Z", 39)]


def test_a_range_takes_its_start_and_leaves_its_end(client: FlaskClient, prices: None) -> None:
    found = client.get("/assets/csv/bitcoin/history?from=2026-01-30T22:20:00Z&to=2026-01-30T22:40:00Z").get_json()["data"]
    assert [price["observed_at"][11:16] for price in found] == ["22:20", "22:30"]
    assert client.get("/assets/csv/bitcoin/history?from=2027-01-01").get_json()["data"] == []


def test_who_has_a_history_is_told_that_it_stands(client: FlaskClient, conn: Connection, prices: None) -> None:
    tag = client.get("/assets/csv/bitcoin/history").headers["ETag"]
    assert client.get("/assets/csv/bitcoin/history", headers={"If-None-Match": tag}).status_code == 304
    conn.execute("update price_history set price_usd = 1 where observed_at = '2026-01-30 22:10Z'")
    assert client.get("/assets/csv/bitcoin/history", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("external_id", ["a/b c?", "/news/1", "//news", "news/", "/", "/history"])
def test_an_id_may_hold_slashes_and_blanks(client: FlaskClient, conn: Connection, prices: None, external_id: str) -> None:
    conn.execute("update price_history set external_id = %s", [external_id])
    address = f"/assets/csv/{quote(external_id, safe='')}/history?limit=20"
    assert client.get(address).get_json()["paging"]["next"].startswith(address.partition("?")[0])
    assert len(list(walk(client, address))) == 50


@pytest.mark.parametrize("path", ["csv/nothing", "nobody/bitcoin", "csv/a%00b", "csv/%ff"])
def test_an_unknown_asset_is_not_found(client: FlaskClient, prices: None, path: str) -> None:
    assert client.get(f"/assets/{path}/history").status_code == 404


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("interval=2h", "interval"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("from=x", "from"),
        ("to=1e9", "to"),
        ("from=2026-02-01&to=2026-01-01", "from"),
    ],
)
def test_a_value_that_is_none_is_refused_by_its_name(client: FlaskClient, prices: None, query: str, name: str) -> None:
    answer = client.get(f"/assets/csv/bitcoin/history?{query}")
    assert answer.status_code == 400
    assert [fault["parameter"] for fault in answer.get_json()["errors"]] == [name]


def test_a_page_reads_the_months_it_answers_with(conn: Connection, prices: None) -> None:
    conn.execute("analyze price_history")
    plan = conn.execute(
        "explain select from price_history where source = 'csv' and external_id = 'bitcoin'"
        " and observed_at >= '2026-02-01Z' and observed_at < '2026-02-02Z'"
    ).fetchall()
    text = str(plan)
    assert "2026_02" in text
    assert "2026_01" not in text
