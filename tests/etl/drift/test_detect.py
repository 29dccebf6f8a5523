"""Profiles, names and comparison on small made-up records: what is told, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from typing import Any

import pytest

from etl.drift.aliases import move_all
from etl.drift.detect import compare
from etl.drift.memory import dump, merge, read
from etl.drift.profile import MOST_FIELDS, Profile, kind_of, survey
from etl.drift.renames import compare_names

MODEL = {"id": True, "price": False, "cap": False}
Change = Callable[[dict[str, Any]], dict[str, Any]]


def coins(count: int = 100, change: Change = lambda row: row) -> Profile:
    rows = [{"id": f"c{n}", "price": Decimal(n) + Decimal("0.5"), "cap": 1000 * n * n + 7, "seen": "2026-01-01"} for n in range(count)]
    records = [(str(row["id"]), change({**row, "roi": None})) for row in rows]
    return survey(records, {name: name for name in MODEL})


def told(base: Profile | None, new: Profile) -> list[tuple[str, str, str | None]]:
    return [(event.field, event.change, event.suggested) for event in compare(base, new, MODEL).events]


def without(name: str) -> Change:
    return lambda row: {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, ""), ("", ""), ([], ""), ({}, ""), (1, "number"), (Decimal("1.5"), "number"), (True, "boolean"), ("1.5", "numeric text"),
     ("-1e9", "numeric text"), ("2026-01-01T00:00:00Z", "time"), ("https://a.example", "address"), ("Bitcoin", "text"),
     ([1], "list"), ({"a": 1}, "object"), ("1,5", "text"), (Decimal("NaN"), "number")],
)  # fmt: skip
def test_a_value_is_of_one_kind_and_what_says_nothing_of_none(value: Any, kind: str) -> None:
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda row: row, []),
        (lambda row: dict(reversed(row.items())), []),
        (lambda row: {**row, "price": row["price"] * 3}, []),
        (without("price"), [("price", "missing", None)]),
        (lambda row: {**row, "price": None}, [("price", "missing", None)]),
        (lambda row: {**row, "price": ""}, [("price", "missing", None)]),
        (lambda row: {**row, "price": str(row["price"])}, [("price", "retyped", None)]),
        (lambda row: {**row, "price": {"usd": row["price"]}}, [("price", "retyped", None)]),
        (lambda row: {**row, "seen": 1767225600}, [("seen", "retyped", None)]),
        (lambda row: {**row, "price": row["price"] * 1000}, [("price", "retyped", None)]),
        (lambda row: {**row, "is_new": False}, [("is_new", "added", None)]),
        (lambda row: {**row, "is_new": None}, []),
        (lambda row: {**row, "roi": {"times": 3}}, []),
        (lambda row: {**without("price")(row), "priceUsd": row["price"]}, [("price", "renamed", "priceUsd")]),
        (lambda row: {**without("price")(row), "motto": "to the moon"}, [("price", "missing", None), ("motto", "added", None)]),
    ],
)
def test_what_changed_is_told_and_nothing_else(change: Change, expected: list[Any]) -> None:
    assert told(coins(), coins(change=change)) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_few_records_are_no_evidence(count: int) -> None:
    assert told(coins(), coins(count, without("price"))) == []


def moved(row: dict[str, Any]) -> dict[str, Any]:
    """The price under another name."""
    return {**without("price")(row), "usd_price": row["price"]}


@pytest.mark.parametrize("before", [[1], [1, 1, 1], [100, 1], [100, *[1] * 20]])
@pytest.mark.parametrize("count", [1, 3])
def test_a_rename_is_suggested_in_few_records_too_whatever_was_learned_last(before: list[int], count: int) -> None:
    base = reduce(merge, (coins(size) for size in before))
    assert told(base, coins(count, moved)) == [("price", "renamed", "usd_price")]


def test_a_rename_of_another_magnitude_is_told_in_few_records_too() -> None:
    findings = compare(coins(60), coins(2, lambda row: {**moved(row), "usd_price": row["price"] * 100}), MODEL)
    assert [(event.field, event.change, event.note) for event in findings.events] == [
        ("price", "renamed", "magnitude differs by a factor of 100")
    ]


@pytest.mark.parametrize("name", ["motto", "price_eur", "predicted_price", "volume"])
def test_a_field_that_is_absent_from_few_records_is_not_renamed_to_whatever_is_new(name: str) -> None:
    told_of = compare(coins(), coins(2, lambda row: {**without("price")(row), name: row["price"]}), MODEL).events
    assert "renamed" not in {event.change for event in told_of}


def test_what_was_seldom_there_is_not_missed() -> None:
    base = coins(change=lambda row: row if row["id"] == "c7" else without("cap")(row))
    assert told(base, coins(change=without("cap"))) == []


def test_before_a_first_payload_the_model_speaks_for_what_it_requires() -> None:
    assert told(None, coins()) == []
    assert told(None, coins(change=without("price"))) == []
    assert told(None, coins(change=without("id"))) == [("id", "missing", None)]
    renamed = coins(change=lambda row: {**without("id")(row), "ID": row["id"]})
    assert told(None, renamed) == [("id", "renamed", "ID")]


def test_an_object_that_was_renamed_is_one_event_with_all_that_is_inside() -> None:
    base = coins(change=lambda row: {**row, "quotes": {"usd": {"price": row["price"], "volume": 5}}})
    new = coins(change=lambda row: {**row, "quote": {"usd": {"price": row["price"], "volume": 5}}})
    assert told(base, new) == [("quotes", "renamed", "quote")]


def test_a_profile_survives_json_and_stays_within_bounds() -> None:
    wide = survey([(f"c{n}", {f"f{n}-{at}": at for at in range(50)}) for n in range(50)], {})
    assert len(wide.fields) == MOST_FIELDS
    base = coins()
    for _ in range(60):
        base = merge(base, read(json.loads(json.dumps(dump(coins())))))
    assert base.records <= 4200
    assert len(json.dumps(dump(base))) < 20_000
    assert told(base, coins()) == []


def test_a_profile_follows_slow_change_and_forgets_what_is_gone() -> None:
    base = coins(1000)
    for _ in range(80):
        base = merge(base, coins(1000, without("seen")))
    assert "seen" not in base.fields


@pytest.mark.parametrize(
    ("old", "new"),
    [("price", "usd_price"), ("market_cap", "marketCap"), ("market_cap", "mcap"), ("volume_24h", "turnover_24h"), ("symbol", "ticker"),
     ("last_updated", "updated_at"), ("percent_change_24h", "pct_chg_24h"), ("quotes.USD.price", "quotes.USD.current_price")],
)  # fmt: skip
def test_names_that_say_the_same_are_alike(old: str, new: str) -> None:
    assert compare_names(old, new) >= 0.9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("high_24h", "low_24h"),
        ("max_supply", "total_supply"),
        ("price", "price_change_24h"),
        ("percent_change_7d", "percent_change_1h"),
    ],
)
def test_names_that_tell_fields_apart_are_not(old: str, new: str) -> None:
    assert compare_names(old, new) <= 0.5


def test_fields_are_moved_where_nothing_is_yet() -> None:
    moves = [(["quote"], ["quotes"]), (["quotes", "usd", "px"], ["quotes", "usd", "price"])]
    assert move_all({"quote": {"usd": {"px": 1}}}, moves) == {"quotes": {"usd": {"price": 1}}}
    assert move_all({"quotes": {"usd": {"px": 1, "price": 2}}}, moves) == {"quotes": {"usd": {"px": 1, "price": 2}}}
    assert move_all({"quotes": 7}, moves) == {"quotes": 7}
