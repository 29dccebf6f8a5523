"""Blocks into records: ragged rows, broken quotes, bytes that are no text, and that no record vanishes."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from etl.source import Payload
from etl.sources.csv_files import FIELDS, SOURCE, rows
from etl.sources.csv_files.dialect import sniff
from etl.validate import validate
from shared.settings import Settings

HEADER = "symbol,name,price,market_cap\n"
SAMPLE = Path(__file__).parents[2] / "data" / "sample_assets.csv"
ADAPTER = TypeAdapter(SOURCE.record)


def payload(text: str | bytes, *, encoding: str = "utf-8") -> Payload:
    """One block that is a whole file."""
    body = text if isinstance(text, bytes) else text.encode(encoding)
    dialect = sniff(body, ended=True)
    return Payload(body, "a.csv#L1-9", {}, datetime.now(UTC), {**asdict(dialect), "width": len(dialect.header)})


def shown(text: str | bytes) -> list[Any]:
    """Each record of a file: its symbol, name and price, or why it is none."""
    return [value[1:4] if isinstance(value, tuple) else value.reason for value in SOURCE.parse(payload(text))]


def reason(value: Any) -> str:
    """Why a parsed value is refused."""
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(value)
    return str(caught.value.errors()[0]["msg"])


def test_a_payload_becomes_rows_field_by_field() -> None:
    text = (
        "\ufeff#;Coin;Ticker;Preis ($);Mkt Cap;Vol 24h;24h %;Last Updated;Link;Tags;Category;id\r\n"
        '1;Bitcoin;btc;$ 64.218,37;1,27T;28,91B;-0,60%;16/03/2022;https://b.example;"pow, old";store of value;bitcoin\r\n'
    )
    (value,) = SOURCE.parse(payload(text))
    row = SOURCE.normalize(ADAPTER.validate_python(value))
    assert row == SOURCE.normalize(ADAPTER.validate_python(value))
    assert row._asdict() == {
        "kind": "asset",
        "external_id": "bitcoin",
        "symbol": "BTC",
        "name": "Bitcoin",
        "category": "store of value",
        "price_usd": "64218.37",
        "market_cap_usd": "1270000000000",
        "volume_24h_usd": "28910000000",
        "percent_change_24h": "-0.60",
        "rank": "1",
        "url": "https://b.example",
        "tags": '{"pow","old"}',
        "source_updated_at": datetime(2022, 3, 16, tzinfo=UTC),
    }


def test_missing_columns_are_empty() -> None:
    assert list(SOURCE.parse(payload("price,name\n1,Bitcoin\n"))) == [("", "", "Bitcoin", "1", *[""] * 8)]


def test_blank_lines_are_no_records() -> None:
    assert shown(HEADER + "\nA,a,1,2\n\n,,,\n  \n ,  , ,\nB,b,2,3\n\n") == [("A", "a", "1"), ("B", "b", "2")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A,a,1", ("A", "a", "1")),
        ("A,a,", ("A", "a", "")),
        ("A,a", "row has 2 cells, header has 4"),
        (",,1", "row has 3 cells, header has 4"),
        ("A", "row has 1 cells, header has 4"),
        ("A,a,1,2,", ("A", "a", "1")),
        ("A,a,1,2,,,", ("A", "a", "1")),
        ("A,a,1,2,3", "row has 5 cells, header has 4"),
        ('"A" , "a, b" ,1,2', ("A", "a, b", "1")),
        ('A,6" b,1,2', ("A", '6" b', "1")),
        ('A,"x ""y""",1,2', ("A", 'x "y"', "1")),
        ('A,"x "y"",1,2', "row has a stray or unclosed quote"),
        ('A,"x,1,2', "row has a stray or unclosed quote"),
    ],
)
def test_a_row_of_another_length_or_with_broken_quotes(line: str, expected: Any) -> None:
    good = "B,b,2,3\n"
    assert shown(HEADER + good + line + "\n" + good + 'C,"c",3,4\n') == [("B", "b", "2"), expected, ("B", "b", "2"), ("C", "c", "3")]


def test_a_broken_row_says_so_in_quarantine() -> None:
    values = list(SOURCE.parse(payload(HEADER + 'A,a,1,2,3\nB,"b,2,3\n')))
    assert [refused.errors[0]["reason"] for refused in validate(SOURCE, values, 0).rejected] == [
        "row has 5 cells, header has 4",
        "row has a stray or unclosed quote",
    ]


@pytest.mark.parametrize("second", ['B,"b",2,3', '"B","b",2,3', 'B,b,"2",3', '"B",b,2,3', "B,b,2,3"])
def test_an_open_quote_breaks_its_own_line_only(second: str) -> None:
    assert shown(f'{HEADER}A,"a,1,2\n{second}\nC,c,3,4\n') == ["row has a stray or unclosed quote", ("B", "b", "2"), ("C", "c", "3")]


def test_a_cell_may_span_lines() -> None:
    assert shown(HEADER + 'A,"a\nb\r\nc",1,2\nB,b,2,3\n') == [("A", "a\nb\r\nc", "1"), ("B", "b", "2")]


def test_separators_of_unicode_do_not_end_a_line() -> None:
    assert shown(HEADER + "A,a\u2028b\x0b\x0c\x85\x1cc,1,2\n") == [("A", "a\u2028b\x0b\x0c\x85\x1cc", "1")]


@pytest.mark.parametrize("cell", [b"a\x00b", b"a\xffb", b"\xed\xa0\x80"])
def test_a_broken_byte_costs_only_its_row(cell: bytes) -> None:
    values = list(
        SOURCE.parse(payload(HEADER.encode() + b"A,a,1,2\nB," + cell + b",1,2\nC,\xc3\xa9\xc3\xa9,1,2\n" + "D,éé,1,2\n".encode()))
    )
    assert len(values) == 4
    assert reason(values[1]).startswith("name: expected at most 500 characters of valid text")
    assert [ADAPTER.validate_python(values[index])[1] for index in (0, 2, 3)] == ["A", "C", "D"]


def test_a_lone_surrogate_in_utf16_costs_only_its_row() -> None:
    body = "\ufeffsymbol,name,price\nA,a,1\nB,".encode("utf-16-le") + b"\x00\xd8" + ",1\nC,c,1\n".encode("utf-16-le")
    values = list(SOURCE.parse(payload(body)))
    assert reason(values[1]).startswith("name:")
    assert [ADAPTER.validate_python(values[index])[1] for index in (0, 2)] == ["A", "C"]


def test_a_huge_cell_is_refused_alone() -> None:
    values = list(SOURCE.parse(payload(HEADER + "A,a,1,2\nB," + "x" * 300_000 + ",1,2\nC,c,1,2\n")))
    assert reason(values[1]).startswith("name:")
    assert len(values) == 3


def test_a_bad_secondary_cell_refuses_its_row() -> None:
    (value,) = SOURCE.parse(payload(HEADER + "A,a,1,abc\n"))
    assert reason(value).startswith("market_cap: expected a number in US dollars")


def test_the_bytes_of_a_record_are_given_back() -> None:
    text = HEADER + '\nA,"a\nb",1,2\r\n,,,\nB,"b,2,3\nC,\u00e9,3,4'
    lines = ['A,"a\nb",1,2\r\n', 'B,"b,2,3\n', "C,\u00e9,3,4"]
    assert SOURCE.excerpts(payload(text), range(9)) == {n: line.encode() for n, line in enumerate(lines)}
    assert SOURCE.excerpts(payload(text), [2]) == {2: lines[2].encode()}
    assert SOURCE.excerpts(payload(text), []) == {}


def test_the_bytes_of_a_record_are_given_back_in_their_encoding() -> None:
    body = "\ufeffsymbol,name,price\nA,é,1\n".encode("utf-16-be") + b"\xd8\x00\x00,\x00\n"
    assert SOURCE.excerpts(payload(body), [0, 1]) == {0: "A,é,1\n".encode("utf-16-be"), 1: b"\xd8\x00\x00,\x00\n"}


def test_a_last_byte_that_is_half_a_character_stands_for_itself() -> None:
    body = "\ufeffsymbol,name,price\nA,é,1\nB,b,x".encode("utf-16-le") + b"1"
    assert SOURCE.excerpts(payload(body), [0, 1]) == {0: "A,é,1\n".encode("utf-16-le"), 1: "B,b,x".encode("utf-16-le") + b"1"}


def test_the_sample_loads_completely() -> None:
    (block,) = SOURCE.extract(Settings(csv_paths=(str(SAMPLE),)), None, {})  # type: ignore[arg-type]
    found = validate(SOURCE, list(SOURCE.parse(block)), 0)
    found_rows = {row.external_id: row for _, row in found.accepted}
    assert not found.rejected
    assert len(found_rows) == 25
    assert (found_rows["bitcoin"].price_usd, found_rows["bitcoin"].volume_24h_usd, found_rows["bitcoin"].percent_change_24h) == (
        "64218.37",
        "28910000000",
        "-0.60",
    )
    assert (found_rows["shiba-inu"].price_usd, found_rows["the-graph"].name, found_rows["the-graph"].volume_24h_usd) == (
        "0.000017412",
        "Graph, The",
        "980500",
    )
    assert (found_rows["dogecoin"].percent_change_24h, found_rows["algorand"].percent_change_24h, found_rows["tezos"].rank) == (
        "-3.4",
        None,
        "23",
    )


PIECES = [
    "A",
    "b c",
    "1",
    "2.5",
    '"',
    '""',
    ",",
    ",",
    ",",
    ",",
    "\n",
    "\r\n",
    "\r",
    " ",
    "é",
    "\udcff",
    "\0",
    '"x,y"',
    '"p\nq"',
    "$1,000",
    "n/a",
    "\n",
    "Z,z,1,2\n",
]


def garbage(seed: int) -> bytes:
    """A file of random pieces behind a sound header."""
    dice = random.Random(seed)
    text = "".join(dice.choice(PIECES) for _ in range(dice.randrange(1, 400)))
    return (HEADER + text).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("seed", range(300))
def test_no_record_vanishes(seed: int) -> None:
    block = payload(garbage(seed))
    values = list(SOURCE.parse(block))
    found = validate(SOURCE, values, 0)
    assert sorted([place for place, _ in found.accepted] + [refused.position for refused in found.rejected]) == list(range(len(values)))
    assert all(refused.errors for refused in found.rejected)
    bits = SOURCE.excerpts(block, range(len(values) + 1))
    assert list(bits) == list(range(len(values)))
    assert unaccounted(block.body[len(HEADER) :], list(bits.values())).strip(b'\r\n ,"') == b""


def unaccounted(body: bytes, bits: list[bytes]) -> bytes:
    """What is left of a body when its records are taken out in order."""
    left = b""
    for bit in bits:
        before, found, body = body.partition(bit)
        assert found == bit
        left += before
    return left + body


@pytest.mark.parametrize("seed", range(40))
def test_what_a_csv_writer_wrote_is_read_back_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SLICE", 7)
    dice = random.Random(seed)
    names = ["".join(dice.choice("ab ,\"\n\r;é'") for _ in range(dice.randrange(1, 12))) + "x" for _ in range(100)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=dice.choice(["\n", "\r\n"]), quoting=csv.QUOTE_ALL)
    writer.writerows([["symbol", "name", "price"], *([f"S{n}", name, "1"] for n, name in enumerate(names))])
    found = [value[1:3] if isinstance(value, tuple) else value for value in SOURCE.parse(payload(out.getvalue()))]
    assert found == [(f"S{n}", name) for n, name in enumerate(names)]


def test_the_fields_are_in_the_order_of_the_record() -> None:
    for index, name in enumerate(FIELDS):
        value = tuple("\ud800" if at == index else "1" if at in (0, 3) else "" for at in range(len(FIELDS)))
        assert reason(value).startswith(f"{name}: ")


def test_the_source_says_where_it_reads() -> None:
    settings = Settings(csv_paths=("a/*.csv", "b.csv"))
    assert SOURCE.reads_from(settings) == ["a/*.csv", "b.csv"]
    assert SOURCE.rate_limit(settings) is None
