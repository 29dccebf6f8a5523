"""Numbers, ranks and texts as files write them, and what becomes of each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from etl.sources.csv_files import FIELDS, SOURCE
from etl.sources.csv_files.amounts import says_comma, swap_decimal
from etl.sources.csv_files.record import write_tags

ADAPTER = TypeAdapter(SOURCE.record)
AMOUNTS = [
    ("1", "1"),
    ("0", "0"),
    ("0.0", "0.0"),
    ("12.50", "12.50"),
    ("0.000000000281", "0.000000000281"),
    ("007", "007"),
    (".5", "0.5"),
    ("5.", "5"),
    ("+5", "5"),
    (" 5 ", "5"),
    ("$5", "5"),
    ("$ 5", "5"),
    ("5$", "5"),
    ("US$ 1.2", "1.2"),
    ("US$1.2", "1.2"),
    ("USD 7", "7"),
    ("1234 USD", "1234"),
    ("1,234 usd", "1234"),
    ("$1,234.56", "1234.56"),
    ("1,234,567.89", "1234567.89"),
    ("1,23,456.78", "123456.78"),
    ("980.50K", "980500"),
    ("980.50k", "980500"),
    ("1.38M", "1380000"),
    ("1.38 M", "1380000"),
    ("$2.5B", "2500000000"),
    ("$2.5 billion", "2500000000"),
    ("1.1T", "1100000000000"),
    ("3.2bn", "3200000000"),
    ("4mn", "4000000"),
    ("7 million", "7000000"),
    ("2 trillion", "2000000000000"),
    ("2.13049E+11", "213049000000"),
    ("1e3", "1000"),
    ("1E-8", "0.00000001"),
    ("1.2345e-05", "0.000012345"),
    ("1 234.56", "1234.56"),
    ("1\u00a0234.56", "1234.56"),
    ("1\u202f234\u202f567", "1234567"),
    ("1'234.5", "1234.5"),
    ("1\u2019234", "1234"),
    ("$541.43B$541426059990", "541426059990"),
    ("$541.43B$541,426,059,990", "541426059990"),
    ("-0", "0"),
    ("9" * 40, "9" * 40),
    ("", None),
    ("-", None),
    ("--", None),
    ("- -", None),
    ("n/a", None),
    ("N/A", None),
    ("nan", None),
    ("NaN", None),
    ("null", None),
    ("NULL", None),
    ("None", None),
    ("?", None),
    ("\u2014", None),
    ("unknown", None),
    ("Unknown", None),
    ("TBD", None),
    ("#N/A", None),
    (" - ", None),
]
REFUSED = [
    "abc",
    "€5",
    "5 €",
    "£5",
    "5 EUR",
    "1.5 BTC",
    "18,777,093.00 BTC",
    "inf",
    "Infinity",
    "-inf",
    "1_000",
    "\uff11\uff12",
    "٣",
    "1,23",
    "12,34,5",
    "1.2.3",
    "1,234,56",
    "1e",
    "e5",
    "1e400",
    "1e41",
    "9" * 41,
    "1e-101",
    "-5",
    "$-5",
    "-$5",
    "(5)",
    "\u22125",
    "5%",
    "0x10",
    "1 2",
    "1/2",
    "1\x002",
    "1.5KB",
    "5 Q",
    "++5",
    "--5",
    "$541.43B$12",
    "1e5M",
    "true",
    "=1+1",
    "12:30",
    "$",
    "K",
    ".",
    ",",
]
PERCENTS = [
    ("-0.60%", "-0.60"),
    ("+2.01%", "2.01"),
    ("0.00%", "0"),
    ("(0.5%)", "-0.5"),
    ("\u22123.1%", "-3.1"),
    ("3.1 %", "3.1"),
    ("-4.23", "-4.23"),
    ("1,234.5%", "1234.5"),
    ("-", None),
    ("", None),
    ("N/A", None),
    ("2.5 pct", "2.5"),
    ("-1e-3", "-0.001"),
]


def record(**cells: str) -> tuple[str, ...]:
    """One parsed row; a symbol and a price unless they are given."""
    return tuple({"symbol": "BTC", "price": "1", **cells}.get(name, "") for name in FIELDS)


def row(**cells: str) -> Any:
    """The row that one parsed row becomes."""
    return SOURCE.normalize(ADAPTER.validate_python(record(**cells)))


def reasons(value: Any) -> list[tuple[Any, str]]:
    """All that is wrong with one parsed value."""
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(value)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


@pytest.mark.parametrize(("text", "value"), AMOUNTS)
@pytest.mark.parametrize(("field", "column"), [("price", "price_usd"), ("market_cap", "market_cap_usd"), ("volume_24h", "volume_24h_usd")])
def test_an_amount_becomes_plain_digits(text: str, value: str | None, field: str, column: str) -> None:
    found = getattr(row(**{field: text}), column)
    assert found == value or (found == "0" and value is not None and not Decimal(value))


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_amount_of_dollars_is_refused_with_its_field(text: str) -> None:
    (where, message), *others = reasons(record(price=text))
    assert where == (FIELDS.index("price"),)
    assert message.startswith("price: expected a number in US dollars")
    assert not others


@pytest.mark.parametrize(("text", "value"), PERCENTS)
def test_a_percentage_becomes_plain_digits(text: str, value: str | None) -> None:
    found = row(percent_change_24h=text).percent_change_24h
    assert found == value or (value is not None and found is not None and Decimal(str(found)) == Decimal(value))


@pytest.mark.parametrize("text", ["abc", "5 USDT", "1%%", "((1%))", "-(1%)", "nan%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    assert reasons(record(percent_change_24h=text))[0][1].startswith("percent_change_24h: expected a percentage")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        ("#1", "1"),
        ("1.0", "1"),
        ("1,023", "1023"),
        ("0", None),
        ("", None),
        ("-", None),
        ("2147483647", "2147483647"),
        ("007", "7"),
    ],
)
def test_a_rank_becomes_a_whole_number_or_nothing(text: str, value: str | None) -> None:
    assert row(rank=text).rank == value


@pytest.mark.parametrize("text", ["1.5", "-1", "2147483648", "first", "1e40", "9" * 30])
def test_what_is_no_rank_is_refused(text: str) -> None:
    assert reasons(record(rank=text))[0][1].startswith("rank: expected a whole number")


def test_every_reason_of_a_row_is_told() -> None:
    assert [where for where, _ in reasons(record(price="abc", market_cap="€1", rank="x"))] == [(3,), (4,), (7,)]


def test_text_is_stripped_and_its_blanks_collapsed() -> None:
    found = row(symbol=" btc ", name="Bit \t coin\n Cash", url=" https://x.example/a ", category=" layer  1 ")
    assert (found.symbol, found.name, found.url, found.category) == ("BTC", "Bit coin Cash", "https://x.example/a", "layer 1")


@pytest.mark.parametrize(("given", "kept"), [("btc", "BTC"), ("BTC", "BTC"), ("sWBTC", "sWBTC"), ("1inch", "1INCH"), ("币", "币")])
def test_a_symbol_in_lower_case_is_raised(given: str, kept: str) -> None:
    assert row(symbol=given).symbol == kept


@pytest.mark.parametrize(
    "name", ["Near Protocol", "N", "Uniswap", "Tether", "TB", "Nano", "None Such", "Unknown Coin", "#MetaHash", "日本 円", "T", "-x"]
)
def test_a_name_that_only_begins_like_a_null_token_is_kept(name: str) -> None:
    assert row(name=name).name == name


@pytest.mark.parametrize(
    ("cells", "external_id", "name"),
    [
        ({"external_id": "bitcoin", "name": "Bitcoin"}, "bitcoin", "Bitcoin"),
        ({"name": "Bitcoin Cash"}, "btc-bitcoin-cash", "Bitcoin Cash"),
        ({"external_id": "n/a", "name": "-"}, "btc", "BTC"),
        ({"symbol": "", "name": "Bitcoin Cash"}, "bitcoin-cash", "Bitcoin Cash"),
        ({"symbol": "null", "external_id": "x-1"}, "x-1", "x-1"),
    ],
)
def test_an_asset_is_known_by_its_id_or_by_symbol_and_name(cells: dict[str, str], external_id: str, name: str) -> None:
    found = row(**cells)
    assert (found.external_id, found.name, found.kind, found.category) == (external_id, name, "asset", "cryptocurrency")


def test_a_row_that_names_no_asset_is_refused() -> None:
    assert reasons(record(symbol="N/A", name="--")) == [((), "row has no id, symbol or name")]


@pytest.mark.parametrize(
    ("field", "text"),
    [("symbol", "B\0C"), ("name", "B\udc80"), ("name", "x" * 501), ("symbol", "x" * 101), ("external_id", "x" * 501), ("url", "x" * 2001)],
)
def test_text_that_no_table_can_hold_is_refused(field: str, text: str) -> None:
    assert reasons(record(**{field: text}))[0][1].startswith(f"{field}: expected at most ")


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("a, b", '{"a","b"}'),
        ("a;b|c", '{"a","b|c"}'),
        ("['a', 'b c']", '{"a","b c"}'),
        ('["a","b"]', '{"a","b"}'),
        ("[]", None),
        ('a"b', '{"a\\"b"}'),
        ("a\\b", '{"a\\\\b"}'),
        ("a, a, ,n/a", '{"a"}'),
        ("{x,y}", '{"x","y"}'),
        ("one", '{"one"}'),
        ("[", '{"["}'),
    ],
)
def test_tags_become_an_array(text: str, array: str | None) -> None:
    assert write_tags(text) == array


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,58", 1),
        ("39.623,0", 1),
        ("0.58", -1),
        ("1,234.5", -1),
        ("1,234", 0),
        ("1.234", 0),
        ("1,234,567", -1),
        ("1.234.567", 1),
        ("12", 0),
        ("1234,567", 1),
        ("0.123", -1),
        ("$3,33K", 1),
        ("n/a", 0),
    ],
)
def test_a_cell_tells_its_decimal_sign(text: str, said: int) -> None:
    assert says_comma(text) == said


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("0,58", "0.58"),
        ("39.623,0", "39623.0"),
        ("1.234", "1234"),
        ("$ 1.234,56", "$ 1234.56"),
        ("3,33K", "3.33K"),
        ("-0,6%", "-0.6%"),
        ("1.5", "1.5"),
        ("2.13049E+11", "2.13049E+11"),
    ],
)
def test_decimal_commas_are_rewritten(text: str, point: str) -> None:
    assert swap_decimal(text) == point
