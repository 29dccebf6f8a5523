"""Why a file cannot be loaded, in one line that says what would work. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etl.sources.csv_files.amounts import is_null, is_number
from etl.sources.csv_files.columns import IDENTITY, is_holding
from etl.sources.csv_files.dates import clean_date, put_order
from etl.sources.csv_files.text import show

EXAMPLE = "a first line such as symbol,name,price"
BACKFILL = "load it with `kasparro-etl backfill --file PATH --asset ID`"


def explain(header: Sequence[str], columns: Mapping[str, int], rows: Sequence[Sequence[str]], text: str) -> str:
    """Give the reason for a file whose best header names no asset or no price."""
    body = text.lstrip("\ufeff \t\r\n")
    named = [cell.strip() for cell in header if cell.strip()]
    if body[:1] == "<":
        return "is HTML or XML, not CSV: export the table as CSV"
    if body[:2] in ('{"', "[{", "{}", "[]", "{\n", "[\n", "{\r", "[\r"):
        return "is JSON, not CSV: export it as CSV"
    if not columns:
        return explain_nothing(header, rows)
    dated = "updated_at" in columns
    identity = not columns.keys().isdisjoint(IDENTITY)
    if not identity and dated and ("price" in columns or any(cell.lower() in ("open", "high", "low", "close") for cell in named)):
        return f"is a price history that names no asset: {BACKFILL}"
    if tickers := [] if identity or "price" in columns else find_tickers(header, rows):
        return f"has a column for each asset ({show(tickers)}): turn it into one row for each asset, with columns symbol and price"
    if "price" in columns:
        return f"has no id, symbol or name column among {show(named)}: name one of them symbol"
    if identity and is_holding(header):
        return f"lists holdings and no price of one unit among {show(named)}: add a column price"
    if identity:
        return f"has no column with a price in US dollars among {show(named)}: name it price"
    return f"has no header that names an asset and a price in its first 20 lines: add {EXAMPLE}"


def explain_nothing(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give the reason for a file in which no line names any field."""
    if tickers := find_tickers(header, rows):
        return f"has a column for each asset ({show(tickers)}): turn it into one row for each asset, with columns symbol and price"
    return f"has no header in its first 20 lines: add {EXAMPLE}"


def find_tickers(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Name the columns of a table that has dates down and assets across; an empty list for any other."""
    sample = [row for row in rows[:200] if row and not is_null(row[0])]
    if len(sample) < 2 or len(header) < 2 or is_date(header[0]) or sum(is_date(row[0]) for row in sample) * 2 <= len(sample):
        return []
    named = [(index, cell.strip()) for index, cell in enumerate(header) if index and cell.strip() and not is_number(cell)]
    return [cell for index, cell in named if holds_numbers(sample, index)]


def holds_numbers(rows: Sequence[Sequence[str]], index: int) -> bool:
    """Tell whether most cells of a column are numbers."""
    cells = [row[index] for row in rows if index < len(row) and not is_null(row[index])]
    return bool(cells) and sum(is_number(cell) for cell in cells) * 2 > len(cells)


def is_date(cell: str) -> bool:
    """Tell whether a cell is a date, whatever its order."""
    for order in ("dmy", "mdy"):
        try:
            return clean_date(put_order(cell, order)) is not None
        except ValueError:
            continue
    return False
