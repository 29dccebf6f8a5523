"""Reads of unified_data: a selection in, rows out. Statements are put together from the fragments of sql/data.sql; knows no HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from shared.errors import DatabaseError
from sql import queries
from web.connection import Connection
from web.cursor import Place
from web.db import CONNECTING, Reader, connect_within, read

PARTS = {name.removeprefix("part_"): sql.SQL(text.decode()) for name, text in queries.items() if name.startswith("part_")}
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
"""How far records are counted, and how many are sorted rather than read in the order of an index."""
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records: the sources that have such, at least one, and the values of the other filters that are given."""

    sources: tuple[str, ...]
    filters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Which of them, in which order: behind a place or an offset. `few`: the filters leave so few that they are sorted."""

    sort: str
    descending: bool
    limit: int
    offset: int = 0
    place: Place | None = None
    few: bool = False


def list_page(reader: Reader, selection: Selection, window: Window, columns: Sequence[str]) -> DictRow:
    """Read a page: `body` (JSON objects with commas between), `records` (one above the limit when more follow), `last_id`, `last_key`.

    A filter's plan depends on its value, so only statements without one are prepared. Raises ValueError for a place that cannot be.
    """
    place = window.place and Place(window.place.key and "", 0)
    statement = write_page(len(selection.sources), tuple(selection.filters), replace(window, place=place), tuple(columns))
    values = bind(selection, window)
    prepare = False if selection.filters else None
    try:
        return read(reader, lambda conn: conn.execute(statement, values, prepare=prepare).fetchall())[0]
    except psycopg.DataError as error:
        raise ValueError("the key of the place is of another type") from error


def get_record(reader: Reader, number: int) -> str | None:
    """Read one record as JSON, None when there is none."""
    statement = PARTS["record"].format(columns=listed("column", COLUMNS))
    found = read(reader, lambda conn: conn.execute(statement, {"id": number}).fetchone())
    return str(found["body"]) if found else None


def count_matches(reader: Reader, selection: Selection) -> tuple[int, bool]:
    """How many records the filters leave, and whether that is exact; beyond MOST, or when counting takes long, the planner guesses."""
    return read(reader, lambda conn: count_or_guess(conn, selection))


def count_or_guess(conn: Connection, selection: Selection) -> tuple[int, bool]:
    """Count as far as MOST within bounds, else ask the planner."""
    filters, values = {"filters": conditions(selection)}, bind(selection) | {"most": MOST + 1}
    counted = MOST + 1
    try:
        with conn.transaction():
            conn.execute(queries["bound_count"])
            counted = conn.execute(PARTS["count"].format(**filters), values).fetchall()[0]["records"]
        least = MOST + 1
    except psycopg.errors.QueryCanceled:
        least = 1
    if counted <= MOST:
        return counted, True
    plan = conn.execute(PARTS["estimate"].format(**filters), values).fetchall()[0]["QUERY PLAN"]
    return max(int(plan[0]["Plan"]["Plan Rows"]), least), False


@lru_cache(maxsize=500)
def write_page(sources: int, filters: tuple[str, ...], window: Window, columns: tuple[str, ...]) -> bytes:
    """Write the statement of a page: of the place only whether it has a key matters, of the filters their names."""
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
    return PARTS["page"].format(ordered=PARTS["then"].join(parts), columns=listed("column", columns), **bounds(window))


def compose_order(selection: Selection, window: Window, wanted: Sequence[sql.Composable]) -> sql.Composed:
    """Put together what reads records in order: an index of each source, merged, or a sort of few."""
    key, going = PARTS[f"key_{window.sort}"], "down" if window.descending else "up"
    if window.few:
        where = PARTS["and"].join(wanted or [PARTS["where_any"]])
        branches: list[sql.Composable] = [PARTS["hits"].format(key=key, filters=conditions(selection), where=where)]
    else:
        where = PARTS["and"].join([*chosen(selection), *wanted] or [PARTS["where_any"]])
        names = [sql.Placeholder(f"source_{number}") for number in range(len(selection.sources))]
        branches = [PARTS[f"branch_{going}"].format(key=key, source=name, where=where, **bounds(window)) for name in names]
    return PARTS[f"merged_{going}"].format(branches=PARTS["then"].join(branches), **bounds(window))


def bounds(window: Window) -> dict[str, sql.Literal]:
    """How many records are read, sent and passed over; one more is read than sent, to know whether a page follows."""
    more = window.limit + 1
    found = {"limit": window.limit, "more": more, "offset": window.offset, "reach": window.offset + more}
    return {name: sql.Literal(value) for name, value in found.items()}


def chosen(selection: Selection) -> list[sql.Composable]:
    """The conditions of the given filters but for the source."""
    return [PARTS[f"where_{name}"] for name in selection.filters]


def conditions(selection: Selection) -> sql.Composed:
    """All conditions of a selection."""
    return PARTS["and"].join([PARTS["where_source"], *chosen(selection)])


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
