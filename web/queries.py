"""Reads of unified_data: a selection in, rows out. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any, Literal, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row

from shared.errors import DatabaseError
from sql import queries
from web.connection import Connection
from web.db import CONNECTING, Reader, connect_within, read
from web.statements import COLUMNS, MOST, PARTS, Selection, Window, bind, conditions, listed, write_page

T = TypeVar("T")
COUNTING, WALKING, SORTING = 300, 150, 1300
"""Milliseconds after which a count is guessed, an index is left, and records are given up; `read` has time for the two latter."""
PIECE = 64 * 1024


def list_page(reader: Reader, selection: Selection, window: Window, columns: Sequence[str]) -> DictRow:
    """Read a page: `body` (JSON objects with commas between), `records` (one above the limit when more follow), `last_id`, `last_key`.

    An index that has to be read far, because what the filters leave lies at its other end, is left soon, and all of that is sorted.
    A filter's plan depends on its value, so only statements without one are prepared.
    Raises ValueError for a place that cannot be, TimeoutError when that is too much to sort.
    """

    def work(conn: Connection) -> DictRow:
        if not selection.filters:
            return conn.execute(write_page(selection, window, columns), bind(selection, window)).fetchall()[0]
        with suppress(psycopg.errors.QueryCanceled):
            return search(conn, selection, window, columns, WALKING)
        try:
            return search(conn, selection, replace(window, way="all"), columns, SORTING)
        except psycopg.errors.QueryCanceled as slow:
            raise TimeoutError("what the filters leave is not sorted in time") from slow

    return read_from(reader, work)


def count_page(reader: Reader, selection: Selection, window: Window, columns: Sequence[str]) -> tuple[int, DictRow | None]:
    """Count what the filters leave and read a page of it at once. Beyond MOST, or when that takes long, guess and give no page."""

    def work(conn: Connection) -> tuple[int, DictRow | None]:
        least = 1
        with suppress(psycopg.errors.QueryCanceled):
            page = search(conn, selection, replace(window, way="some"), columns, COUNTING)
            if page["total"] <= MOST:
                return page["total"], page
            least = MOST + 1
        plan = conn.execute(PARTS["estimate"].format(filters=conditions(selection)), bind(selection)).fetchall()[0]["QUERY PLAN"]
        return max(int(plan[0]["Plan"]["Plan Rows"]), least), None

    return read_from(reader, work)


def read_from(reader: Reader, work: Callable[[Connection], T]) -> T:
    """Read from a place. Raises ValueError for one that cannot be."""
    try:
        return read(reader, work)
    except psycopg.DataError as error:
        raise ValueError("the key of the place is of another type") from error


def search(conn: Connection, selection: Selection, window: Window, columns: Sequence[str], patience: int) -> DictRow:
    """Read a page within bounds: both in one message, which is a transaction of its own. Raises QueryCanceled after `patience` ms."""
    values = bind(selection, window) | {"patience": str(patience)}
    with conn.transaction() if conn.info.transaction_status else nullcontext(), psycopg.ClientCursor(conn, row_factory=dict_row) as cursor:
        cursor.execute(b";".join((queries["bound_search"], write_page(selection, window, columns), queries["end_bounded"])), values)
        cursor.nextset()
        return cursor.fetchall()[0]


def get_record(reader: Reader, number: int) -> str | None:
    """Read one record as JSON, None when there is none."""
    found = read(reader, lambda conn: conn.execute(PARTS["record"].format(columns=listed("column", COLUMNS)), {"id": number}).fetchone())
    return str(found["body"]) if found else None


def export(reader: Reader, selection: Selection, columns: Sequence[str], form: Literal["csv", "ndjson"]) -> Iterator[bytes]:
    """Stream every record of a selection in pieces, over a connection of its own that ends with the stream. Raises DatabaseError."""
    shown = listed("cell" if form == "csv" else "column", columns)
    statement = PARTS[f"export_{form}"].format(columns=shown, filters=conditions(selection))
    try:
        with connect_within(reader.dsn, CONNECTING) as conn, conn.transaction():
            conn.execute(queries["bound_export"])
            with psycopg.ClientCursor(conn) as cursor, cursor.copy(statement, bind(selection)) as copy:
                yield from pieces(copy)
    except (psycopg.Error, TimeoutError) as error:
        raise DatabaseError("the database was lost during an export", passing=True) from error


def pieces(lines: Iterable[Any]) -> Iterator[bytes]:
    """Join lines into pieces worth sending."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
