"""How a file is written: encoding, delimiter, header, decimal sign, order of dates, and the column of each field. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from pydantic_core import SchemaValidator

from etl.errors import SourceError, Unrecognised
from etl.sources.csv_files.amounts import is_null, is_unclear, read_cell, says_comma, swap_decimal
from etl.sources.csv_files.columns import FIELDS, IDENTITY, Mapping, map_columns
from etl.sources.csv_files.currency import find_base, find_currencies, require_assets, require_dollars
from etl.sources.csv_files.dates import find_order, put_order
from etl.sources.csv_files.encoding import detect_encoding
from etl.sources.csv_files.record import SCHEMAS
from etl.sources.csv_files.refusals import explain
from etl.sources.csv_files.text import one_line
from shared.excerpts import decode, encode

Names = dict[str, str]
"""Header cells that a person gave a field to: the cell to the field."""

SAMPLE = 256 * 1024
DELIMITERS = ",;\t|"
HEADER_WITHIN = 20
HEADER_LINES = 10
SAMPLE_ROWS = 2000
ENOUGH = 20
NUMBERS = ("price", "market_cap", "volume_24h", "percent_change_24h")
PLAIN_NAMES = {"external_id": "id", "updated_at": "last_updated"}
VALIDATORS = {name: SchemaValidator(schema) for name, schema in zip(FIELDS, SCHEMAS, strict=True)}

csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True, slots=True)
class Dialect:
    """All that reading a file on needs to know of its beginning. `head`: bytes, `skip`: lines up to the end of the header."""

    encoding: str
    newline: str
    delimiter: str
    head: int
    skip: int
    header: list[str]
    columns: dict[str, int]
    decimal: str = "."
    dates: str = ""
    ignored: dict[str, str] = field(default_factory=dict)
    currencies: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read the beginning: with this delimiter, this line being the header."""

    delimiter: str
    skip: int
    header: list[str]
    mapping: Mapping
    rows: list[list[str]]

    @property
    def usable(self) -> bool:
        """Whether it names an asset and a price."""
        return "price" in self.mapping.columns and not self.mapping.columns.keys().isdisjoint(IDENTITY)

    @property
    def rating(self) -> tuple[bool, int, float]:
        """What makes one candidate better than another."""
        width = len(self.header)
        even = sum(len(row) == width for row in self.rows) / len(self.rows) if self.rows else 0.0
        return self.usable, len(self.mapping.columns), even if width > 1 else -1.0


def sniff(sample: bytes, *, ended: bool, names: Names | None = None) -> Dialect:
    """Read a file's beginning. Raises SourceError with the one reason why it cannot be loaded, and what would work."""
    encoding, text = open_sample(sample, ended=ended)
    best, currencies = read_currencies(max(find_candidates(text, names or {}), key=lambda candidate: candidate.rating))
    if not best.usable:
        records = [(None, {name: read_cell(cell, False) for name, cell in zip(best.header, row, strict=False)}) for row in best.rows[:500]]
        raise Unrecognised(explain(best.header, best.mapping.columns, best.rows, text), "", records)
    return settle(best, currencies, text, encoding)


def open_sample(sample: bytes, *, ended: bool) -> tuple[str, str]:
    """The encoding of a file's beginning, and its whole lines as text. Raises SourceError for what is no text."""
    if not sample.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"):
        raise SourceError("is empty: export it again, with a first line such as symbol,name,price", permanent=True)
    encoding = detect_encoding(sample)
    text = decode(sample, encoding)
    return encoding, text if ended else text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text


def settle(best: Candidate, currencies: list[int], text: str, encoding: str) -> Dialect:
    """Make the dialect of the best way to read a file. Raises SourceError where its figures cannot be told or are in other currencies."""
    if best.mapping.doubled:
        raise SourceError(f"has more than one column {one_line(best.mapping.doubled[0])}: rename all but one", permanent=True)
    require_dollars(best.header, best.rows, currencies)
    require_assets(best.header, best.rows, best.mapping.columns, based=bool(currencies) and find_base(best.header, best.rows) >= 0)
    head = len(encode("".join(islice(io.StringIO(text, newline=""), best.skip)), encoding))
    newline = "\n" if "\n" in text or "\r" not in text else "\r"
    header = [one_line(cell)[:100] for cell in best.header]
    return decide(best, Dialect(encoding, newline, best.delimiter, head, best.skip, header, best.mapping.columns, currencies=currencies))


def read_currencies(best: Candidate) -> tuple[Candidate, list[int]]:
    """Find the columns that name the currency of a price, which hold no field then, and the base of pairs, which is the symbol."""
    if not best.usable:
        return best, []
    identity = [index for name, index in best.mapping.columns.items() if name in IDENTITY]
    currencies = find_currencies(best.header, best.rows, identity)
    if not currencies:
        return best, []
    header = ["" if index in currencies else cell for index, cell in enumerate(best.header)]
    mapping, base = map_columns(header), find_base(header, best.rows)
    if base >= 0:
        others = {name: index for name, index in mapping.columns.items() if index != base}
        mapping = replace(mapping, columns={**others, "symbol": base})
    return replace(best, mapping=mapping), currencies


def find_candidates(text: str, names: Names) -> Iterator[Candidate]:
    """Read the beginning with every delimiter and every early line as the header."""
    start = text.removeprefix("\ufeff")
    lines = list(islice(io.StringIO(start, newline=""), HEADER_WITHIN + HEADER_LINES))
    for delimiter in DELIMITERS:
        for number in range(min(len(lines), HEADER_WITHIN)):
            reader = csv.reader(lines[number : number + HEADER_LINES], delimiter=delimiter, skipinitialspace=True)
            header = next(reader, [])
            if not any(cell.strip() for cell in header):
                continue
            skip = number + reader.line_num
            mapping = map_named(header, names)
            if not mapping.columns:
                continue
            rows = read_rows(start, delimiter, skip)
            yield Candidate(delimiter, skip, header, mapping, rows)
        header, *rows = read_rows(start, delimiter, 0) or [[]]
        yield Candidate(delimiter, 0, header, Mapping({}), rows)


def map_named(header: Sequence[str], names: Names) -> Mapping:
    """Map a header, a cell that a person gave a field to under that field's name unless another cell has it."""
    mapping = map_columns(header)
    told = {one_line(cell)[:100]: at for at, cell in enumerate(header)}
    given = {told[cell]: name for cell, name in names.items() if cell in told and name not in mapping.columns}
    if not given:
        return mapping
    return map_columns([PLAIN_NAMES.get(given[at], given[at]) if at in given else cell for at, cell in enumerate(header)])


def read_rows(text: str, delimiter: str, skip: int) -> list[list[str]]:
    """Read the sample's rows after the header, blank ones left out."""
    lines = io.StringIO(text, newline="")
    for _ in range(skip):
        next(lines, "")
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    return [row for row in islice(rows, SAMPLE_ROWS) if any(row)]


def decide(best: Candidate, dialect: Dialect) -> Dialect:
    """Look at the sampled cells: the decimal sign, the order of dates, and the columns that are not what their name says."""
    cells = {name: take_cells(best.rows, index) for name, index in dialect.columns.items()}
    said = [says_comma(cell) for name in NUMBERS for cell in cells.get(name, [])]
    unclear = [name for name in NUMBERS if best.delimiter in ";\t" and not any(said) and is_unclear(cells.get(name, []))]
    if "price" in unclear:
        step = "write prices with more or fewer than 3 decimals, or without thousands"
        raise SourceError(f"does not show whether 1.234 means thousands: {step}", permanent=True)
    decimal = "," if said.count(1) > said.count(-1) else "."
    order = find_order(cells.get("updated_at", []))
    ignored = dict.fromkeys(unclear, "its cells do not show whether 1.234 means thousands")
    if order == "?":
        ignored["updated_at"] = "day and month cannot be told apart"
    if counts_rows(best.rows, dialect.columns):
        ignored["external_id"] = "it only numbers the rows"
    if best.mapping.bare and not is_percent(cells.get("percent_change_24h", []), best.mapping.bare[0] == "24h", decimal):
        ignored["percent_change_24h"] = "it may be a percentage, a ratio, a fraction or an amount"
    for name in FIELDS:
        if name in cells and name not in ignored and name not in (*IDENTITY, "price") and is_foreign(name, cells[name], decimal, order):
            ignored[name] = "most of its cells are something else"
    columns = {name: index for name, index in dialect.columns.items() if name not in ignored}
    return replace(dialect, columns=columns, decimal=decimal, dates=order.strip("?"), ignored=ignored)


def take_cells(rows: list[list[str]], index: int) -> list[str]:
    """Give a column's cells, null tokens left out."""
    return [row[index] for row in rows if index < len(row) and not is_null(row[index])]


def counts_rows(rows: list[list[str]], columns: dict[str, int]) -> bool:
    """Tell an id that only numbers the rows: it would name another asset as soon as the order changes."""
    cells = take_cells(rows, columns.get("external_id", len(columns) + 10_000))
    if (
        len(cells) < 3
        or columns.keys().isdisjoint(("symbol", "name"))
        or not all(cell.strip().isdecimal() and len(cell) < 19 for cell in cells)
    ):
        return False
    return [int(cell) for cell in cells] == list(range(int(cells[0]), int(cells[0]) + len(cells)))


def is_percent(cells: list[str], windowed: bool, decimal: str) -> bool:
    """Tell whether a change whose header names no unit is in percent: its cells say so, or nine in ten would be absurdly small."""
    if any("%" in cell for cell in cells):
        return True
    sizes: list[float] = []
    for cell in cells:
        try:
            sizes.append(abs(float(swap_decimal(cell) if decimal == "," else cell)))
        except ValueError:
            continue
    if sizes and min(sizes) > 0 and not any("-" in cell for cell in cells) and 0.5 <= sorted(sizes)[len(sizes) // 2] <= 1.5:
        return False
    return windowed and bool(sizes) and sorted(sizes)[min(len(sizes) * 9 // 10, len(sizes) - 1)] >= 1


def is_foreign(name: str, cells: list[str], decimal: str, order: str) -> bool:
    """Tell a column most of whose cells cannot be what its name says: another currency, another unit, serial numbers for dates."""
    if len(cells) < ENOUGH:
        return False
    if name in NUMBERS and decimal == ",":
        cells = [swap_decimal(cell) for cell in cells]
    if name == "updated_at" and order:
        cells = [put_order(cell, order) for cell in cells]
    return sum(not VALIDATORS[name].isinstance_python(cell) for cell in cells) * 2 > len(cells)
