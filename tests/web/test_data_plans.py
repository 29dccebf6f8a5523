"""Every statement that can be put together for `/data` is one the schema can plan, and reads an index rather than the table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql

from shared.db import Connection
from web.cursor import Place
from web.statements import COLUMNS, FILTERS, PARTS, TIMES, Selection, Window, bind, compose_body, compose_page, conditions, listed

KEYS = {"id": "5", "updated_at": "2026-01-01T00:00:00+00:00", "price_usd": "0.10", "market_cap_usd": "1e3", "rank": "7", "name": "it's"}
VALUES: dict[str, Any] = {
    "kind": "asset",
    "category": "it's",
    "status": "active",
    "symbol": "B%TC",
    "q": "50%_\\",
    "updated_since": datetime(2026, 1, 1, tzinfo=UTC),
    "updated_before": datetime(2026, 1, 1, tzinfo=UTC),
    "min_price": Decimal("0.1"),
    "max_price": Decimal(9),
    "min_market_cap": Decimal(9),
}
SOURCES = ("a", "b", "c")
MANY = """
insert into unified_data (source, source_type, external_id, kind, symbol, name, category, price_usd, market_cap_usd, rank, status,
                          updated_at, raw_id, raw_position, run_id)
select (array['a', 'b', 'c'])[1 + n % 3], 'api', 'r' || n, 'asset', 'S' || n, 'Name ' || md5(n::text),
       case when n % 5000 = 0 then 'rare' else 'common' end, n * 0.1, n * 1.1, n, case when n % 5000 = 1 then 'inactive' else 'active' end,
       timestamptz '2026-01-01' + n * interval '1 second', 1, n, 1
from generate_series(1, 30000) n
"""


def explain(conn: Connection, statement: sql.Composable, values: Mapping[str, Any]) -> dict[str, Any]:
    """Plan a statement."""
    planned = psycopg.ClientCursor(conn).execute(sql.SQL("explain (format json) ") + statement, values).fetchall()
    plan: dict[str, Any] = planned[0]["QUERY PLAN"][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every step of a plan."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("way", ["along", "some", "all"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", KEYS)
def test_every_page_can_be_planned(conn: Connection, sort: str, descending: bool, way: Any) -> None:
    assert set(VALUES) == set(FILTERS)
    chosen = [{}, VALUES, *({name: value} for name, value in VALUES.items())]
    for filters, place, columns in itertools.product(chosen, [None, Place(KEYS[sort], 3), Place(None, 3)], [COLUMNS, COLUMNS[:3], TIMES]):
        selection = Selection(SOURCES, filters)
        for window in (Window(sort, descending, 100, offset, place, way) for offset in (0, 5)):
            assert explain(conn, compose_page(selection, window, columns), bind(selection, window))


def test_the_longest_statement_of_many_sources_is_one_that_the_driver_keeps_translated() -> None:
    selection, window = Selection(tuple("abcdef"), VALUES), Window("market_cap_usd", True, 1000, 5, Place("1", 3))
    assert len(compose_page(Selection(selection.sources, {}), window, COLUMNS).as_bytes()) <= 4096
    assert b"--" not in compose_page(selection, window, COLUMNS).as_bytes()


@pytest.mark.parametrize("name", FILTERS)
def test_every_count_and_every_export_can_be_planned(conn: Connection, name: str) -> None:
    selection = Selection(SOURCES, {name: VALUES[name]})
    values = bind(selection)
    assert explain(conn, PARTS["record"], {"id": 1})
    for form, part, shown in (
        ("csv", "columns", listed("cell", COLUMNS)),
        ("ndjson", "body", compose_body(COLUMNS)),
        ("ndjson", "body", compose_body(["id"])),
    ):
        statement = PARTS[f"export_{form}"].format(filters=conditions(selection), **{part: shown})
        with psycopg.ClientCursor(conn) as cursor, cursor.copy(statement, values) as copy:
            assert list(copy)[1:] == []


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", KEYS)
def test_a_page_is_merged_from_one_index_a_source_and_sorts_nothing(conn: Connection, sort: str, descending: bool) -> None:
    conn.execute(MANY)
    conn.execute("vacuum analyze unified_data")
    for place in (None, Place(KEYS[sort], 20_000)):
        selection, window = Selection(SOURCES, {}), Window(sort, descending, 100, 0, place)
        steps = list(nodes(explain(conn, compose_page(selection, window, COLUMNS), bind(selection, window))))
        assert sort == "id" or INDEXES[sort] in {step.get("Index Name") for step in steps}
        kinds = [step["Node Type"] for step in steps]
        assert "Merge Append" in kinds
        assert "Seq Scan" not in kinds
        assert "Sort" not in kinds
        assert "Incremental Sort" not in kinds


INDEXES = {
    "id": "unified_data_by_id",
    "updated_at": "unified_data_by_updated_at",
    "price_usd": "unified_data_by_price",
    "market_cap_usd": "unified_data_by_market_cap",
    "rank": "unified_data_by_rank",
    "name": "unified_data_by_name",
}


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({"category": "rare"}, "unified_data_by_category"),
        ({"status": "inactive"}, "unified_data_inactive"),
        ({"symbol": "s12345"}, "unified_data_by_symbol"),
        ({"q": "c4ca4238"}, "unified_data_by_words"),
        ({"updated_since": datetime(2026, 1, 1, 8, 19, tzinfo=UTC)}, "unified_data_by_updated_at"),
        ({"min_price": Decimal(10), "max_price": Decimal("10.5")}, "unified_data_by_price"),
        ({"min_market_cap": Decimal(32_990)}, "unified_data_by_market_cap"),
    ],
)
def test_a_filter_that_leaves_little_is_found_by_an_index(conn: Connection, filters: dict[str, Any], index: str) -> None:
    conn.execute(MANY)
    conn.execute("vacuum analyze unified_data")
    selection, window = Selection(SOURCES, filters), Window("name", True, 100, way="some")
    steps = list(nodes(explain(conn, compose_page(selection, window, ["id"]), bind(selection, window))))
    assert index in {step.get("Index Name") for step in steps}
    assert "Seq Scan" not in [step["Node Type"] for step in steps]
