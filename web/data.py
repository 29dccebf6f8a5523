"""`GET /data` and `GET /data/{id}`: pages of records as ready JSON, kept as long as the version of the data stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from flask import Blueprint, Response
from pydantic import Field

from shared.model import SourceType
from web.catalog import Catalog, read_counts
from web.conditional import Body, conditional, held
from web.cursor import Place, read_cursor, write_cursor
from web.data_query import DataQuery, Filters, refused
from web.endpoints import Answer, endpoint
from web.errors import Problem
from web.parameters import Number
from web.queries import COLUMNS, COUNTED, FILTERS, MOST, Selection, Window, count_matches, get_record, list_page

blueprint = Blueprint("data", __name__)


class RecordAnswer(Answer):
    """One record; `fields` leaves some out."""

    id: int = 0
    source: str = ""
    source_type: SourceType = "api"
    external_id: str = ""
    kind: Literal["asset", "article"] = "asset"
    asset_id: str | None = None
    symbol: str | None = None
    name: str = ""
    category: str = ""
    price_usd: Number | None = None
    market_cap_usd: Number | None = None
    volume_24h_usd: Number | None = None
    percent_change_24h: Number | None = None
    rank: int | None = None
    url: str | None = None
    tags: list[str] | None = None
    source_updated_at: datetime | None = None
    first_seen_at: datetime | None = None
    updated_at: datetime | None = None
    status: Literal["active", "inactive"] = "active"


class PagingAnswer(Answer):
    """Where a page stands among all; `next` is the address of the page behind it."""

    limit: int
    offset: int | None = Field(description="null on a page named by a cursor")
    total: int
    total_is: Literal["exact", "estimate"]
    next_cursor: str | None
    next: str | None


class DataAnswer(Answer):
    """A page of records."""

    request_id: str
    api_latency_ms: float
    paging: PagingAnswer
    data: list[RecordAnswer]


class OneAnswer(Answer):
    """One record."""

    request_id: str
    api_latency_ms: float
    data: RecordAnswer


@dataclass(frozen=True, slots=True)
class Found:
    """What a query selects, nothing when no source has such records; how many there are, and among how many of those sources."""

    selection: Selection | None
    among: int
    total: int
    exact: bool = True


@blueprint.get("/data")
@endpoint("List records", query=DataQuery, answer=DataAnswer)
def list_data(query: DataQuery) -> Response:
    """Answer a page, from the cache while the version of its sources stands."""
    place = placed(query)
    return conditional(query.source, query.source_type, lambda catalog: make_page(catalog, query, place))


@blueprint.get("/data/<int:number>")
@endpoint("Show a record", answer=OneAnswer, errors=(404,))
def show_record(number: int) -> Response:
    """Answer one record."""

    def make(_catalog: Catalog) -> Body:
        found = get_record(held().reader, number) if number < 2**63 else None
        if found is None:
            raise Problem(404, "no record has this id")
        return Body(f'"data":{found}}}'.encode())

    return conditional(None, None, make)


def scope(query: DataQuery) -> str:
    """What a cursor belongs to: the filters and the order, not how many records or which of their columns."""
    return query.model_dump_json(exclude={"sort", "cursor", "limit", "offset", "fields"}) + query.order


def placed(query: DataQuery) -> Place | None:
    """The place a cursor names. Raises Problem when it is none of ours."""
    if query.cursor is None:
        return None
    try:
        return read_cursor(query.cursor, scope(query))
    except ValueError as error:
        raise refused(str(error)) from None


def select(catalog: Catalog, query: Filters) -> Found:
    """Find the sources that have such records, and count as far as the kept counts tell."""
    counts = catalog.counts if query.category is None else read_counts(held().reader, query.category)
    fitting = [
        count
        for count in counts
        if query.source in (None, count.source)
        and query.source_type in (None, catalog.types.get(count.source))
        and query.kind in (None, count.kind)
        and query.status in (None, count.status)
    ]
    filters = {name: value for name in FILTERS if (value := getattr(query, name)) is not None}
    sources = tuple(dict.fromkeys(count.source for count in fitting))
    among = sum(count.records for count in catalog.counts if count.source in sources)
    return Found(Selection(sources, filters) if sources else None, among, sum(count.records for count in fitting))


def count(catalog: Catalog, query: Filters) -> Found:
    """Find the sources and how many records there are, counting them where the kept counts do not tell."""
    found = select(catalog, query)
    if found.selection is None or not found.selection.filters.keys() - set(COUNTED):
        return found
    return Found(found.selection, found.among, *count_matches(held().reader, found.selection))


def few(found: Found, query: DataQuery) -> bool:
    """Whether sorting all that the filters leave is less work than walking an index past all that they do not."""
    sought = (query.offset or 0) + query.limit
    return found.exact and found.total <= MOST and found.total * found.total <= sought * found.among


def make_page(catalog: Catalog, query: DataQuery, place: Place | None) -> Body:
    """Read a page and write all of its answer that is the same for everybody."""
    found = held().counted(catalog, query, scope(query), count)
    body, following = "", None
    if found.selection and found.total:
        window = Window(query.order.lstrip("-"), query.order.startswith("-"), query.limit, query.offset or 0, place, few(found, query))
        try:
            page = list_page(held().reader, found.selection, window, query.fields or COLUMNS)
        except ValueError as error:
            raise refused(str(error)) from error
        body = page["body"]
        if page["records"] > query.limit:
            following = write_cursor(Place(page["last_key"], page["last_id"]), scope(query))
    paging = PagingAnswer(
        limit=query.limit,
        offset=None if query.cursor else query.offset or 0,
        total=found.total,
        total_is="exact" if found.exact else "estimate",
        next_cursor=following,
        next=address(query, following) if following else None,
    )
    return Body(f'"paging":{paging.model_dump_json()},"data":[{body}]}}'.encode(), paging.next)


def address(query: DataQuery, cursor: str) -> str:
    """The address of the page behind a cursor, with everything else as it was asked."""
    given: Mapping[str, Any] = query.model_dump(mode="json", exclude_unset=True, exclude={"cursor", "offset", "fields"})
    given = {**given, **({"fields": ",".join(query.fields)} if query.fields else {}), "cursor": cursor}
    return f"/data?{urlencode(given, safe=',:')}"
