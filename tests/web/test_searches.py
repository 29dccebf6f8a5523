"""Searches of `/data`: each is made once, reads no table from end to end, and ends soon wherever what it looks for lies."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from shared.db import Connection
from sql import queries as statements
from tests.web.conftest import wait_until
from tests.web.test_data_plans import KEYS, MANY, SOURCES, VALUES, explain, nodes
from web import queries
from web.cursor import Place
from web.db import forget
from web.statements import FILTERS, Selection, Window, bind, compose_page

LATE = datetime(2026, 1, 1, 5, tzinfo=UTC)
"""18,000 of the 30,000 records were changed before it, and they have the lower ids."""
SCANS = "select idx_scan as n from pg_stat_user_indexes where indexrelname = %s"


@pytest.fixture
def many(conn: Connection) -> None:
    """Thirty thousand records, changed in the order of their ids."""
    conn.execute(MANY)
    conn.execute("vacuum analyze unified_data")


@pytest.mark.parametrize(("search", "index"), [("symbol=s12345", "unified_data_by_symbol"), ("q=c4ca4238", "unified_data_by_words")])
def test_a_first_page_is_counted_and_read_by_one_search(app: Any, conn: Connection, many: None, search: str, index: str) -> None:
    made = app()
    before = conn.execute(SCANS, (index,)).fetchall()[0]["n"]
    page = made.test_client().get(f"/data?{search}").get_json()
    assert page["paging"]["total"] == len(page["data"]) == 1
    forget(made.extensions["kasparro"].reader)  # a session tells what it did when it ends
    wait_until(lambda: conn.execute(SCANS, (index,)).fetchall()[0]["n"] > before)
    assert conn.execute(SCANS, (index,)).fetchall()[0]["n"] == before + 1


def test_the_pages_behind_the_first_have_its_total(app: Any, many: None) -> None:
    client = app().test_client()
    first = client.get("/data?category=rare&min_price=1&limit=2").get_json()
    second = client.get(first["paging"]["next"]).get_json()
    fresh = app().test_client().get(first["paging"]["next"]).get_json()
    assert [page["paging"]["total"] for page in (first, second, fresh)] == [6, 6, 6]
    assert second["data"] == fresh["data"] != first["data"]


@pytest.mark.parametrize("sort", ["id", "-id", "rank"])
def test_what_lies_at_the_other_end_of_an_order_is_found_and_sorted(
    app: Any, many: None, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(queries, "WALKING", 1)
    when = "updated_before" if sort == "-id" else "updated_since"
    page = app().test_client().get(f"/data?{when}={LATE:%Y-%m-%dT%H:%M:%SZ}&sort={sort}&limit=3&fields=rank")
    wanted = [17999, 17998, 17997] if sort == "-id" else [18000, 18001, 18002]
    assert [record["rank"] for record in page.get_json()["data"]] == wanted


def test_an_order_that_takes_too_long_is_refused_with_what_would_not(app: Any, many: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "WALKING", 1)
    monkeypatch.setattr(queries, "SORTING", 1)
    page = app().test_client().get(f"/data?updated_since={LATE:%Y-%m-%dT%H:%M:%SZ}&sort=id")
    assert (page.status_code, page.get_json()["detail"].split(": ")[1]) == (503, "leave sort out, or filter further")
    assert page.headers["Retry-After"]


def test_what_is_found_first_by_time_in_the_order_of_ids_is_found_by_the_index_of_times(conn: Connection, many: None) -> None:
    selection, window = Selection(SOURCES, {"updated_since": LATE}), Window("id", False, 100, way="all")
    with conn.transaction():
        conn.execute(statements["bound_search"], {"patience": "10000"})
        steps = list(nodes(explain(conn, compose_page(selection, window, ["id"]), bind(selection, window))))
    assert {step["Index Name"] for step in steps if "Index Name" in step} == {"unified_data_by_updated_at", "unified_data_pkey"}


@pytest.mark.parametrize("way", ["along", "some", "all"])
def test_no_filter_in_any_order_reads_the_table_from_end_to_end(conn: Connection, many: None, way: Any) -> None:
    for name, sort, descending, placed in product(FILTERS, KEYS, (False, True), (False, True)):
        place = Place(KEYS[sort], 20_000) if placed else None
        selection, window = Selection(SOURCES, {name: VALUES[name]}), Window(sort, descending, 100, 0, place, way)
        with conn.transaction():
            conn.execute(statements["bound_search"], {"patience": "10000"})
            steps = list(nodes(explain(conn, compose_page(selection, window, ["id"]), bind(selection, window))))
        assert "Seq Scan" not in [step["Node Type"] for step in steps], (name, sort, descending, place)
