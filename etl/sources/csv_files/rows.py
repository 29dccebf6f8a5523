"""A block of lines into tuples of raw cells in the order of the fields, and a record's position back into its bytes. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from operator import add, itemgetter
from typing import Any

from etl.source import Payload, Unreadable
from etl.sources.csv_files.amounts import swap_decimal
from etl.sources.csv_files.columns import FIELDS, IDENTITY
from etl.sources.csv_files.currency import is_dollar, says_other
from etl.sources.csv_files.dates import put_order
from etl.sources.csv_files.encoding import decode, encode, unit_size

SLICE = 1000
CAREFUL = 32
RECORD_LINES = 200
NUMBERS = ("price", "market_cap", "volume_24h", "percent_change_24h")
BLANK = ("",) * len(FIELDS)

Cells = tuple[str, ...]
Pick = Callable[[Sequence[str]], Cells]
Taken = tuple[list[str] | Unreadable, str]


def parse(payload: Payload) -> Iterator[Cells | Unreadable]:
    """Yield the records of a block in order: a tuple of raw cells each, or an `Unreadable`. Blank lines are no records."""
    meta = payload.meta
    pick, width = make_pick(meta), int(meta["width"])
    lines = open_lines(payload)
    reader = open_reader(lines, meta["delimiter"])
    rewrite = make_rewrite(meta)
    size = SLICE
    while True:
        start, line = lines.tell(), reader.line_num
        try:
            rows = list(islice(reader, size))
        except csv.Error:
            if size > CAREFUL:
                lines.seek(start)
                size = CAREFUL
                continue
            records = parse_slowly(lines, start, lines.tell(), meta)
        else:
            if not rows:
                return
            read = reader.line_num - line
            size = min(size * 2, SLICE)
            if read > len(rows) and (read >= len(rows) + RECORD_LINES or set(map(len, rows)) != {width}):
                records = parse_slowly(lines, start, lines.tell(), meta)
            else:
                records = parse_rows(rows, pick, meta)
        yield from map(rewrite, records) if rewrite else records


def parse_rows(rows: list[list[str]], pick: Pick, meta: Mapping[str, Any]) -> list[Cells | Unreadable]:
    """Pick the cells of rows that are one line each, or all of the header's length; blank ones are left out."""
    if set(map(len, rows)) == {int(meta["width"])}:
        records: list[Cells | Unreadable] = list(map(pick, map(add, rows, repeat([""]))))
        if BLANK + ("",) * len(meta.get("currencies", ())) not in records:
            return records
    return [shape(row, pick, meta) for row in rows if not is_blank(row)]


def is_blank(row: Sequence[str]) -> bool:
    """Tell a line that holds nothing but delimiters and blanks."""
    return not any(row) or (len(row) == 1 and not row[0].strip())


def open_lines(payload: Payload) -> io.StringIO:
    """Open a block's text behind the header."""
    lines = io.StringIO(decode(payload.body, payload.meta["encoding"]), newline="")
    for _ in range(int(payload.meta["skip"])):
        lines.readline()
    return lines


def open_reader(lines: Iterator[str], delimiter: str) -> Any:
    """Read rows; a quote where none belongs is an error, so that an unclosed one is noticed at the next."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)


def make_pick(meta: Mapping[str, Any]) -> Pick:
    """Make the picker of the fields' cells and of those that name a currency; a row has an empty cell appended for missing columns."""
    return itemgetter(*(meta["columns"].get(name, -1) for name in FIELDS), *meta.get("currencies", ()))


def make_rewrite(meta: Mapping[str, Any]) -> Callable[[Cells | Unreadable], Cells | Unreadable] | None:
    """Make what undoes decimal commas and swappable dates and refuses other currencies, where a file has them."""
    swapped = [FIELDS.index(name) for name in NUMBERS if meta["decimal"] == "," and name in meta["columns"]]
    order, where = meta["dates"], FIELDS.index("updated_at")
    if not swapped and not order and not meta.get("currencies"):
        return None

    def rewrite(cells: Cells | Unreadable) -> Cells | Unreadable:
        if isinstance(cells, Unreadable):
            return cells
        values = list(cells[: len(FIELDS)])
        other = next((cell for cell in cells[len(FIELDS) :] if not is_dollar(cell)), "")
        if other:
            return Unreadable(says_other(other))
        for index in swapped:
            values[index] = swap_decimal(values[index])
        if order:
            values[where] = put_order(values[where], order)
        return tuple(values)

    return rewrite


def parse_slowly(lines: io.StringIO, start: int, end: int, meta: Mapping[str, Any]) -> list[Cells | Unreadable]:
    """Parse the lines between two places one by one, and leave `lines` behind the last record taken."""
    pick = make_pick(meta)
    return [shape(row, pick, meta) for row, _ in take_records(lines, start, end, meta)]


def take_records(lines: io.StringIO, start: int, end: int, meta: Mapping[str, Any]) -> Iterator[Taken]:
    """Read records with their text. Where a quote is left open, only its own line is broken, and the next is read on its own."""
    width, delimiter = int(meta["width"]), meta["delimiter"]
    lines.seek(start)
    while lines.tell() < end:
        first = lines.readline()
        behind = lines.tell()
        row = read_row(chain([first], islice(lines, RECORD_LINES)), delimiter)
        if lines.tell() != behind and (row is None or len(row) != width):
            row = None
            lines.seek(behind)
        after = lines.tell()
        text = first
        if after != behind:
            lines.seek(behind)
            text += lines.read(after - behind)
        if row is None:
            row = read_row(iter([close_up(first, delimiter)]), delimiter)
        if row is None:
            yield Unreadable("row has a stray or unclosed quote"), text
        elif not is_blank(row):
            yield row, text


def read_row(lines: Iterator[str], delimiter: str) -> list[str] | None:
    """Read one row, None when its quotes are broken."""
    try:
        row: list[str] | None = next(open_reader(lines, delimiter), None)
    except csv.Error:
        return None
    return row


def close_up(line: str, delimiter: str) -> str:
    """Take away the blanks behind closing quotes, which the strict reader does not forgive."""
    return re.sub(rf'"[ \t]+(?={re.escape(delimiter)}|[\r\n]|$)', '"', line) if delimiter != "\t" else line


def shape(row: list[str] | Unreadable, pick: Pick, meta: Mapping[str, Any]) -> Cells | Unreadable:
    """Give a row of the wrong length what it lacks, when it still names an asset and has a price cell."""
    if isinstance(row, Unreadable):
        return row
    if len(row) == meta["width"]:
        return pick([*row, ""])
    width, columns = int(meta["width"]), meta["columns"]
    if len(row) > width and any(map(str.strip, row[width:])):
        return Unreadable(f"row has {len(row)} cells, header has {width}")
    named = any(columns[name] < len(row) and row[columns[name]].strip() for name in IDENTITY if name in columns)
    if len(row) < width and not (named and columns["price"] < len(row)):
        return Unreadable(f"row has {len(row)} cells, header has {width}")
    return pick([*row[:width], *[""] * (width - len(row) + 1)])


def excerpts(payload: Payload, positions: Collection[int]) -> dict[int, bytes]:
    """Give the bytes of the lines of the records at some positions."""
    wanted = set(positions)
    lines = open_lines(payload)
    start = lines.tell()
    end = lines.seek(0, io.SEEK_END)
    taken = islice(take_records(lines, start, end, payload.meta), max(wanted, default=-1) + 1)
    encoding = payload.meta["encoding"]
    half = payload.body[len(payload.body) // unit_size(encoding) * unit_size(encoding) :]
    found = {}
    for place, (_, text) in enumerate(taken):
        if place in wanted:
            torn = half and lines.tell() == end  # the last byte is half a character, and stands for itself
            found[place] = encode(text[:-1], encoding) + half if torn else encode(text, encoding)
    return found
