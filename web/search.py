"""Records by what a person types: those first whose symbol or name is just that, then those that begin with it, then by rank."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from sql import queries
from web.catalog import current
from web.conditional import held
from web.connection import Connection
from web.data_query import DataQuery
from web.db import read, read_within
from web.errors import RETRY_AFTER, Problem
from web.queries import list_page
from web.statements import COLUMNS, MOST, Selection, Window, bind, literal

PATIENCE = 600
"""Milliseconds after which a better order is given up."""
FEW = 1_000
"""How many records that are or begin with the text are put in order."""


@dataclass(frozen=True, slots=True)
class Hits:
    """The first records of a search, how many there are, and whether that number is exact or a least."""

    data: list[dict[str, Any]]
    total: int
    total_is: str
    all: str


def find_records(query: DataQuery) -> Hits:
    """Find the records that `query.q` likely means; in the order of /data when to put them in a better one takes too long."""
    address = f"/data?{urlencode({'q': query.q or ''})}"
    try:
        rows = read(held().reader, lambda conn: search(conn, query.q or "", query.limit))
    except TimeoutError:
        rows = in_order(query)
        more = len(rows) > query.limit
        return Hits(rows[: query.limit], min(len(rows), query.limit), "least" if more else "exact", address)
    total = rows[0]["total"] if rows else 0
    return Hits(rows, min(total, MOST), "exact" if total <= MOST else "least", address)


def in_order(query: DataQuery) -> list[dict[str, Any]]:
    """Find records in the order of /data, one more than asked for. Raises Problem when even that takes too long."""
    sources = tuple(dict.fromkeys(count.source for count in current(held().watch).counts))
    if not sources:
        return []
    try:
        page = list_page(held().reader, Selection(sources, {"q": query.q}), Window("id", False, query.limit + 1), COLUMNS)
    except TimeoutError as slow:
        raise Problem(503, "too many records are like this: type more letters", headers={"Retry-After": str(RETRY_AFTER)}) from slow
    found: list[dict[str, Any]] = json.loads(b"[%b]" % page.body, parse_float=Decimal)
    return found


def search(conn: Connection, text: str, limit: int) -> list[dict[str, Any]]:
    """Look for a text within bounds, both in one message. Raises TimeoutError when that takes too long."""
    values = bind(Selection((), {"q": text})) | {"exact_like": f"%\n{literal(text)}\n%", "begins_like": f"%\n{literal(text)}%"}
    values |= {"most": MOST + 1, "few": FEW, "limit": limit, "patience": str(PATIENCE)}
    return read_within(conn, queries["bound_search"] + b";" + queries["list_search_hits"], values)
