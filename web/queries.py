"""Reads of unified_data: a selection in, rows out. Statements are put together from the fragments of sql/data.sql; knows no HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from shared.errors import DatabaseError
from sql import queries
from web.connection import Connection
from web.cursor import Place
from web.db import CONNECTING, Reader, connect_within, read

T = TypeVar("T")
PARTS = {name[5:]: sql.SQL(re.sub(r"(?m)^--.*|\Z", " ", text.decode())) for name, text in queries.items() if name.startswith("part_")}
COLUMNS = (
    *("id", "source", "source_type", "external_id", "kind", "asset_id", "symbol", "name", "category"),
    *("price_usd", "market_cap_usd", "volume_24h_usd", "percent_change_24h", "rank", "url", "tags"),
    *("source_updated_at", "first_seen_at", "updated_at", "status"),
)
TEXTS = ("external_id", "asset_id", "symbol", "name", "category", "url")
TIMES = ("source_updated_at", "first_seen_at", "updated_at")
NULLABLE = ("price_usd", "market_cap_usd", "rank")
COUNTED = ("kind", "category", "status")
FILTERS = (*COUNTED, "symbol", "q", "updated_since", "updated_before", "min_price", "max_price", "min_market_cap")
MOST = 10_000
"""How many records are found, counted and sorted; what leaves more is read in the order of an index and its number guessed."""
COUNTING, WALKING, SORTING = 300, 150, 1300
"""Milliseconds after which a count is guessed, an index is left, and records are given up; `read` has time for the two latter."""
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records: the sources that have such, at least one, and the values of the other filters that are given."""

    sources: tuple[str, ...]
    filters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Which of them, in which order: behind a place or an offset.

    `way`: along an index of the order past what the filters do not leave; or what they leave found first, at most MOST or all of it.
    """

    sort: str
    descending: bool
    limit: int
    offset: int = 0
    place: Place | None = None
    way: Literal["along", "some", "all"] = "along"


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
        cursor.execute(queries["bound_search"] + b";" + write_page(selection, window, columns), values)
        cursor.nextset()
        return cursor.fetchall()[0]


def get_record(reader: Reader, number: int) -> str | None:
    """Read one record as JSON, None when there is none."""
    found = read(reader, lambda conn: conn.execute(PARTS["record"].format(columns=listed("column", COLUMNS)), {"id": number}).fetchone())
    return str(found["body"]) if found else None


def write_page(selection: Selection, window: Window, columns: Sequence[str]) -> bytes:
    """Write the statement of a page: of the place only whether it has a key matters, of the filters their names."""
    place = window.place and Place(window.place.key and "", 0)
    return written(len(selection.sources), tuple(selection.filters), replace(window, place=place), tuple(columns))


@lru_cache(maxsize=500)
def written(sources: int, filters: tuple[str, ...], window: Window, columns: tuple[str, ...]) -> bytes:
    """Write a statement once."""
    return compose_page(Selection(("",) * sources, dict.fromkeys(filters)), window, columns).as_bytes()


def compose_page(selection: Selection, window: Window, columns: Sequence[str]) -> sql.Composed:
    """Put together the statement of a page: what has a sort key comes first, in either direction."""
    place, null, going = window.place, window.sort in NULLABLE, "down" if window.descending else "up"
    parts = []
    if not null or place is None or place.key is not None:
        wanted = [PARTS[f"known_{window.sort}"]] if null else []
        wanted += [PARTS[f"{going}_from_{window.sort}"]] if place else []
        parts.append(compose_order(selection, window, wanted))
    if null:
        wanted = [PARTS[f"unknown_{window.sort}"], *([PARTS[f"{going}_from_id"]] if place and place.key is None else [])]
        parts.append(compose_order(selection, window, wanted))
    told = {"hits": compose_hits(selection, window), "total": PARTS["total_hits" if window.way == "some" else "total_unknown"]}
    return PARTS["page"].format(ordered=PARTS["then"].join(parts), columns=listed("column", columns), **told, **bounds(window))


def compose_hits(selection: Selection, window: Window) -> sql.Composable:
    """Put together what finds the hits, where they are found first."""
    if window.way == "along":
        return sql.SQL("")
    most = sql.Literal(MOST + 1 if window.way == "some" else None)
    return PARTS["hits"].format(columns=listed("column", sorted({"id", window.sort})), filters=conditions(selection), most=most)


def compose_order(selection: Selection, window: Window, wanted: Sequence[sql.Composable]) -> sql.Composed:
    """Put together what reads records in order: an index of each source, merged, or the hits."""
    key, going = PARTS[f"key_{window.sort}"], "down" if window.descending else "up"
    if window.way == "along":
        where = PARTS["and"].join([*(PARTS[f"where_{name}"] for name in selection.filters), *wanted] or [PARTS["where_any"]])
        names = [sql.Placeholder(f"source_{number}") for number in range(len(selection.sources))]
        branches = [PARTS[f"branch_{going}"].format(key=key, source=name, where=where, **bounds(window)) for name in names]
    else:
        branches = [PARTS["branch_hits"].format(key=key, where=PARTS["and"].join(wanted or [PARTS["where_any"]]))]
    return PARTS[f"merged_{going}"].format(branches=PARTS["then"].join(branches), **bounds(window))


def bounds(window: Window) -> dict[str, sql.Literal]:
    """How many records are read, sent and passed over; one more is read than sent, to know whether a page follows."""
    more = window.limit + 1
    found = {"limit": window.limit, "more": more, "offset": window.offset, "reach": window.offset + more}
    return {name: sql.Literal(value) for name, value in found.items()}


def conditions(selection: Selection) -> sql.Composed:
    """All conditions of a selection."""
    return PARTS["and"].join([PARTS["where_source"], *(PARTS[f"where_{name}"] for name in selection.filters)])


def bind(selection: Selection, window: Window | None = None) -> dict[str, Any]:
    """The values of every placeholder; wildcards of LIKE in what a client sends mean themselves."""
    values: dict[str, Any] = {"sources": list(selection.sources), **selection.filters}
    values |= {f"source_{number}": name for number, name in enumerate(selection.sources)}
    if "symbol" in values:
        values["symbol_like"] = f"%\n{literal(values['symbol'])}\n%"
    if "q" in values:
        # Three letters in a row are what the index needs; anything shorter is looked for where a symbol or a name begins.
        begins = "" if re.search(r"[^\W_]{3}", values["q"]) else "\n"
        values["q_like"] = f"%{begins}{literal(values['q'])}%"
    if window and window.place:
        values |= {"after_key": window.place.key, "after_id": window.place.id}
    return values


def literal(text: str) -> str:
    """A text for LIKE that matches itself alone."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def listed(kind: str, columns: Sequence[str]) -> sql.Composed:
    """Columns as they are or, as `cell`, as a spreadsheet may read them."""
    kinds = dict.fromkeys(TEXTS, "cell_text") | dict.fromkeys(TIMES, "cell_time") | {"tags": "cell_list"} if kind == "cell" else {}
    return sql.SQL(", ").join(PARTS[kinds.get(name, "column")].format(name=sql.Identifier(name)) for name in columns)


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
