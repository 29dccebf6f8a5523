"""`/assets/{source}/{external_id}`: a record, its prices as a chart and where it came from; `/search`: the way there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from flask import Blueprint, Response
from pydantic import Field, ValidationError

from sql import queries
from web.charts import Point
from web.data_query import DataQuery
from web.db import Connection, read, snapshot
from web.endpoints import Query, endpoint
from web.errors import Problem, reason_of
from web.lineage import LineageAnswer, trace
from web.pages import HTML, TEXT, either, page
from web.parameters import Text, is_storable
from web.search import find_records
from web.state import state

blueprint = Blueprint("asset_page", __name__)

Range = Literal["1d", "7d", "30d", "1y", "all"]
RANGES: dict[str, tuple[str, timedelta]] = {
    "1d": ("1 day", timedelta(days=1)),
    "7d": ("7 days", timedelta(days=7)),
    "30d": ("30 days", timedelta(days=30)),
    "1y": ("1 year", timedelta(days=365)),
    "all": ("all", timedelta.max),
}
"""What a chart spans."""
POINTS = 360
"""Points of a chart: one for every two units of its width."""
EXACT = 12_000
"""Prices that are all looked at for the lowest and the highest; of more a chart has a sample."""
HEAD = 600
FOUND = 50


class AssetQuery(Query):
    """What to show of a record."""

    range: Range | None = Field(None, description="how far back the chart of prices goes; by default 7 days, or up to the last price")


class SearchQuery(Query):
    """What to look for."""

    q: Text | None = Field(None, description="text in the symbol or in the name or title, as in /data")


@blueprint.get("/assets/<source>/<path:external_id>")
@page
@endpoint("A record as a page", query=AssetQuery, produces=(HTML, TEXT), errors=(404,))
def show_asset(query: AssetQuery, source: str, external_id: str) -> Response:
    """Answer with a record, its prices and its lineage."""
    which = {"source": source, "external_id": external_id}
    found = read(state().reader, lambda conn: read_asset(conn, which, query.range)) if is_storable(source + external_id) else None
    if found is None:
        raise Problem(404, "no source has such a record: look for it by its name")
    record, points, lineage, head = found
    facts = {"record": record, "points": points, "lineage": lineage, "head": head, "now": record["now"]}
    return either("asset", **facts, range=query.range or fitting(record), ranges=RANGES)


def fitting(record: Mapping[str, Any]) -> Range:
    """The smallest range, from a week on, that holds the last price."""
    ranges: tuple[Range, ...] = ("7d", "30d", "1y")
    last = record["last_at"]
    return next((name for name in ranges if last is None or last > record["now"] - RANGES[name][1]), "all")


def read_asset(
    conn: Connection, which: Mapping[str, str], span: Range | None
) -> tuple[dict[str, Any], list[Point], LineageAnswer, str | None] | None:
    """Read a record, its prices and its lineage as of one instant; None when there is no such record."""
    with snapshot(conn):
        record = conn.execute(queries["get_asset"], which).fetchone()
        if record is None:
            return None
        lineage = conn.execute(queries["get_lineage"], {"id": record["id"]}).fetchall()[0]
        points = read_points(conn, which, record, span or fitting(record)) if record["first_at"] else []
    body = lineage["body"]
    head = bytes(body)[:HEAD].decode("utf-8", "replace") if body is not None else None
    return record, points, trace(lineage), head


def read_points(conn: Connection, which: Mapping[str, str], record: Mapping[str, Any], span: Range) -> list[Point]:
    """The prices of a range, the last of each of POINTS intervals with its lowest and highest."""
    first: datetime = record["first_at"]
    since = first if span == "all" else max(first, record["now"] - RANGES[span][1])
    until = record["last_at"] + timedelta(microseconds=1)
    if since >= until:
        return []
    asked = {**which, "from": since, "to": until, "bucket": max((until - since) / POINTS, timedelta(seconds=1)), "exact": EXACT}
    return [Point(**row) for row in conn.execute(queries["list_chart_points"], asked).fetchall()]


@blueprint.get("/search")
@page
@endpoint("Search records, as a page", query=SearchQuery, produces=(HTML, TEXT))
def search_records(query: SearchQuery) -> Response:
    """Answer with the records whose symbol, name or title has a text as /data finds them, those first that are likely meant."""
    found, fault = None, ""
    if query.q:
        try:
            found = find_records(DataQuery.model_validate({"q": query.q, "limit": FOUND}))
        except ValidationError as error:
            fault = reason_of(error.errors(include_input=False, include_url=False)[0])
    return either("search", q=query.q or "", found=found, fault=fault, shown=FOUND)
