"""`GET /assets/{source}/{external_id}/history`: what an asset cost, as observed or in buckets of hours and days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote, urlencode

from flask import Blueprint, Response
from pydantic import Field

from sql import queries
from web.conditional import Body, compared
from web.db import rows
from web.endpoints import Answer, Query, endpoint
from web.errors import Problem
from web.parameters import Number, Time, Whole, is_storable
from web.state import state

blueprint = Blueprint("history", __name__)
BUCKETS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
NOT_FOUND = "no source has such an asset"
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class HistoryQuery(Query):
    """Which time, in which steps."""

    since: Time | None = Field(None, alias="from", description="only from this time on; by default from the first price")
    to: Time | None = Field(None, description="only before this time; by default up to the last price")
    interval: Literal["raw", "1h", "1d"] = Field("raw", description="every price as observed, or buckets of UTC hours or days")
    limit: Whole = Field(1000, ge=1, le=1000, description="how many; of buckets, how many intervals of time from the first on")


class PriceAnswer(Answer):
    """A price at a moment, or with an interval, what it did in a bucket that begins then: `price_usd` is in raw ones only."""

    observed_at: datetime
    price_usd: Number | None = None
    market_cap_usd: Number | None = None
    volume_24h_usd: Number | None = None
    open: Number | None = None
    high: Number | None = None
    low: Number | None = None
    close: Number | None = None
    prices: int | None = None


class HistoryPagingAnswer(Answer):
    """The address of the page behind, which begins where this one ends."""

    limit: int
    next: str | None


class HistoryAnswer(Answer):
    """Prices, oldest first."""

    request_id: str
    api_latency_ms: float
    paging: HistoryPagingAnswer
    data: list[PriceAnswer]


@blueprint.get("/assets/<source>/<path:external_id>/history")
@endpoint("Show the price history of an asset", query=HistoryQuery, answer=HistoryAnswer, errors=(404,), sends=("ETag", "Link"))
def show_history(query: HistoryQuery, source: str, external_id: str) -> Response:
    """Answer a page of prices or buckets."""
    if query.since and query.to and query.since > query.to:
        raise Problem(400, "not understood: from", errors=[{"parameter": "from", "reason": "is after `to`"}])
    if not is_storable(source + external_id):
        raise Problem(404, NOT_FOUND)
    which = {"source": source, "external_id": external_id}
    statement = queries["list_prices" if query.interval == "raw" else "list_price_buckets"]
    asked = {"from": query.since or FIRST, "to": query.to or LAST, "limit": query.limit, "bucket": BUCKETS.get(query.interval)}
    page = rows(state().reader, statement, which | asked)[0]
    if not page["body"] and not rows(state().reader, queries["has_record"], which)[0]["known"]:
        raise Problem(404, NOT_FOUND)
    following = address(query, source, external_id, page["following"]) if page["following"] else None
    paging = HistoryPagingAnswer(limit=query.limit, next=following)
    return compared(Body(f'"paging":{paging.model_dump_json()},"data":[{page["body"]}]}}'.encode(), following))


def address(query: HistoryQuery, source: str, external_id: str, start: datetime) -> str:
    """The address of the page that begins at a moment."""
    given = query.model_dump(mode="json", by_alias=True, exclude_unset=True) | {"from": start.isoformat().replace("+00:00", "Z")}
    return f"/assets/{quote(source, safe='')}/{quote(external_id, safe='')}/history?{urlencode(given, safe=':')}"
