"""Reads of unified_data: a selection in, rows out. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import psycopg

from shared.errors import DatabaseError
from sql import queries
from web.connection import Connection
from web.cursor import Place
from web.db import CONNECTING, Reader, connect_within, read
from web.statements import MOST, PARTS, Selection, Window, bind, compose_body, conditions, listed, write_page

T = TypeVar("T")
COUNTING, WALKING, SORTING = 300, 150, 1300
"""Milliseconds after which a count is guessed, an index is left, and records are given up; `read` has time for the two latter."""
PIECE = 64 * 1024
SILENCE, LEAVING = 120.0, 5.0
"""Seconds an export waits for the server's next word, for a rare record may lie far away; and for its last when the client is gone."""


@dataclass(frozen=True, slots=True)
class Page:
    """Records as JSON objects with commas between, the place of the last one where more follow, how many there are if they were counted."""

    body: bytes
    last: Place | None
    total: int | None


def list_page(reader: Reader, selection: Selection, window: Window, columns: Sequence[str]) -> Page:
    """Read a page.

    An index that has to be read far, because what the filters leave lies at its other end, is left soon, and all of that is sorted.
    A filter's plan depends on its value, so only statements without one are prepared.
    Raises ValueError for a place that cannot be, TimeoutError when that is too much to sort.
    """

    def work(conn: Connection) -> Page:
        if not selection.filters:
            return taken(conn.execute(write_page(selection, window, columns), bind(selection, window)), window.limit)
        with suppress(psycopg.errors.QueryCanceled):
            return search(conn, selection, window, columns, WALKING)
        try:
            return search(conn, selection, replace(window, way="all"), columns, SORTING)
        except psycopg.errors.QueryCanceled as slow:
            raise TimeoutError("what the filters leave is not sorted in time") from slow

    return read_from(reader, work)


def count_page(reader: Reader, selection: Selection, window: Window, columns: Sequence[str]) -> tuple[int, Page | None]:
    """Count what the filters leave and read a page of it at once. Beyond MOST, or when that takes long, guess and give no page."""

    def work(conn: Connection) -> tuple[int, Page | None]:
        least = 1
        with suppress(psycopg.errors.QueryCanceled):
            page = search(conn, selection, replace(window, way="some"), columns, COUNTING)
            if page.total is not None and page.total <= MOST:
                return page.total, page
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


def search(conn: Connection, selection: Selection, window: Window, columns: Sequence[str], patience: int) -> Page:
    """Read a page within bounds: both in one message, which is a transaction of its own. Raises QueryCanceled after `patience` ms."""
    values = bind(selection, window) | {"patience": str(patience)}
    with conn.transaction() if conn.info.transaction_status else nullcontext(), psycopg.ClientCursor(conn) as cursor:
        cursor.execute(b";".join((queries["bound_search"], write_page(selection, window, columns), queries["end_bounded"])), values)
        cursor.nextset()
        return taken(cursor, window.limit)


def taken(cursor: psycopg.Cursor[Any], limit: int) -> Page:
    """Take a page from rows of body, id, key and total, as the server sent them: their bytes are the answer's, so nothing is decoded."""
    found = cursor.pgresult
    assert found
    bodies = [body for number in range(min(found.ntuples, limit)) if (body := found.get_value(number, 0)) is not None]
    last, total = None, found.get_value(0, 3) if found.ntuples else None
    if found.ntuples > limit:
        key, at = found.get_value(limit - 1, 2), found.get_value(limit - 1, 1)
        assert at is not None
        last = Place(None if key is None else key.decode(), int(at))
    return Page(b",".join(bodies), last, None if total is None else int(total))


def get_record(reader: Reader, number: int) -> str | None:
    """Read one record as JSON, None when there is none."""
    found = read(reader, lambda conn: conn.execute(PARTS["record"].as_bytes(), {"id": number}).fetchone())
    return str(found["doc"]) if found else None


def export(reader: Reader, selection: Selection, columns: Sequence[str], form: Literal["csv", "ndjson"]) -> Iterator[bytes]:
    """Stream every record of a selection in pieces, over a connection of its own that ends with the stream. Raises DatabaseError."""
    shown = {"columns": listed("cell", columns)} if form == "csv" else {"body": compose_body(columns)}
    statement = PARTS[f"export_{form}"].format(filters=conditions(selection), **shown)
    try:
        with connect_within(reader.dsn, CONNECTING) as conn, conn.transaction():
            conn.silence = SILENCE
            conn.execute(queries["bound_export"])
            with psycopg.ClientCursor(conn) as cursor, cursor.copy(statement, bind(selection)) as copy:
                try:
                    yield from pieces(copy)
                except GeneratorExit:
                    conn.silence = LEAVING
                    raise
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
