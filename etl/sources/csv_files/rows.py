"""A block of lines into tuples of raw cells in the order of the fields, and a record's position back into its bytes. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice, repeat
from operator import add, itemgetter
from typing import Any

from etl.source import Payload, Unreadable
from etl.sources.csv_files.amounts import swap_decimal
from etl.sources.csv_files.columns import FIELDS, IDENTITY
from etl.sources.csv_files.currency import is_dollar, says_other
from etl.sources.csv_files.dates import put_order
from shared.excerpts import RECORD_LINES, cut_rows, is_blank, open_lines, open_reader, take_rows

SLICE = 1000
CAREFUL = 32
NUMBERS = ("price", "market_cap", "volume_24h", "percent_change_24h")
BLANK = ("",) * len(FIELDS)

Cells = tuple[str, ...]
Pick = Callable[[Sequence[str]], Cells]


def parse(payload: Payload) -> Iterator[Cells | Unreadable]:
    """Yield the records of a block in order: a tuple of raw cells each, or an `Unreadable`. Blank lines are no records."""
    meta = payload.meta
    pick, width = make_pick(meta), int(meta["width"])
    lines = open_lines(payload.body, meta)
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
    broken = Unreadable("row has a stray or unclosed quote")
    return [shape(broken if row is None else row, pick, meta) for row, _ in take_rows(lines, start, end, meta)]


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
    return cut_rows(payload.body, payload.meta, positions)
