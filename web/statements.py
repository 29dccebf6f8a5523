"""Statements over unified_data: put together from the fragments of sql/data.sql, and the values they are sent with. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from psycopg import sql

from sql import queries
from web.cursor import Place

JOINERS = ("and", "then")
PARTS = {
    name: sql.SQL(f" {text} " if name in JOINERS else text)
    for name, text in (
        (key[5:], " ".join(re.sub(r"--.*", "", each.decode()).split())) for key, each in queries.items() if key[:5] == "part_"
    )
}
"""Without comments and line ends: a statement of more than 4,096 bytes the driver would translate anew each time."""
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
    along = tuple(columns) == COLUMNS and window.way == "along" and not window.offset
    parts = []
    if not null or place is None or place.key is not None:
        wanted = [PARTS[f"{going}_from_{window.sort}"]] if place else [PARTS[f"known_{window.sort}"]] if null else []
        parts.append(compose_order(selection, window, wanted, along))
    if null:
        wanted = [PARTS[f"unknown_{window.sort}"], *([PARTS[f"{going}_from_id"]] if place and place.key is None else [])]
        parts.append(compose_order(selection, window, wanted, along))
    told = PARTS["told_time" if window.sort in TIMES else "told_key"]
    shared = {"ordered": PARTS["then"].join(parts), "told": told, **bounds(window)}
    if along:
        return PARTS["page_along"].format(**shared)
    total = PARTS["total_hits" if window.way == "some" else "total_unknown"]
    return PARTS["page_found"].format(hits=compose_hits(selection, window), body=compose_body(columns), total=total, **shared)


def compose_body(columns: Sequence[str]) -> sql.Composable:
    """A record as JSON: as it is kept, or made of some columns."""
    return PARTS["doc"] if tuple(columns) == COLUMNS else PARTS["members"].format(columns=listed("column", columns))


def compose_hits(selection: Selection, window: Window) -> sql.Composable:
    """Put together what finds the hits, where they are found first."""
    if window.way == "along":
        return sql.SQL("")
    most = sql.Literal(MOST + 1 if window.way == "some" else None)
    columns = sql.SQL(", ").join(PARTS["column"].format(name=sql.Identifier(name)) for name in sorted({"id", window.sort}))
    return PARTS["hits"].format(columns=columns, filters=conditions(selection), most=most)


def compose_order(selection: Selection, window: Window, wanted: Sequence[sql.Composable], along: bool) -> sql.Composed:
    """Put together what reads records in order: an index of each source, merged, or the hits."""
    key, going = PARTS[f"key_{window.sort}"], "down" if window.descending else "up"
    if window.way == "along":
        carried = PARTS["carried_doc" if along else "carried_nothing"]
        where = PARTS["and"].join([*(PARTS[f"where_{name}"] for name in selection.filters), *wanted] or [PARTS["where_any"]])
        names = [sql.Placeholder(f"source_{number}") for number in range(len(selection.sources))]
        told = {"key": key, "carried": carried, "where": where, **bounds(window)}
        branches = [PARTS[f"branch_{going}"].format(source=name, **told) for name in names]
    else:
        branches = [PARTS["branch_hits"].format(key=key, where=PARTS["and"].join(wanted or [PARTS["where_any"]]))]
    order = PARTS[f"order_{going}_id" if window.sort == "id" else f"order_{going}"]
    return PARTS["merged"].format(branches=PARTS["then"].join(branches), order=order, **bounds(window))


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
    """Columns as they are, times in UTC, or, as `cell`, as a spreadsheet may read them."""
    kinds = dict.fromkeys(TIMES, "column_time")
    if kind == "cell":
        kinds |= dict.fromkeys(TEXTS, "cell_text") | {"tags": "cell_list"}
    return sql.SQL(", ").join(PARTS[kinds.get(name, "column")].format(name=sql.Identifier(name)) for name in columns)
