"""`GET /data` and `GET /data/{id}`: pages of records as ready JSON, kept as long as the version of the data stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from flask import Blueprint, Response
from pydantic import Field

from shared.model import SourceType
from web.cache import known, remember
from web.catalog import Catalog, read_counts, version_of
from web.conditional import Body, conditional, held
from web.cursor import Place, read_cursor, write_cursor
from web.data_query import DataQuery, Filters, refused
from web.endpoints import Answer, endpoint
from web.errors import RETRY_AFTER, Problem
from web.parameters import Number
from web.queries import Page, count_page, get_record, list_page
from web.statements import COLUMNS, COUNTED, FILTERS, MOST, Selection, Window

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
@endpoint("List records", query=DataQuery, answer=DataAnswer, sends=("ETag", "Link"))
def list_data(query: DataQuery) -> Response:
    """Answer a page, from the cache while the version of its sources stands."""
    place = placed(query)
    return conditional(query.source, query.source_type, lambda catalog: make_page(catalog, query, place))


@blueprint.get("/data/<int:number>")
@endpoint("Show a record", answer=OneAnswer, errors=(404,), sends=("ETag",))
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


def ways(found: Found, query: DataQuery) -> Literal["along", "some"]:
    """Whether finding and sorting all that the filters leave is less work than walking an index past all that they do not."""
    sought = (query.offset or 0) + query.limit
    few = found.exact and found.total <= MOST and found.total * found.total <= sought * found.among
    return "some" if few else "along"


def find(catalog: Catalog, query: DataQuery, place: Place | None) -> tuple[Found, Page | None]:
    """Find out how many records there are, and read the page. Where the kept counts do not tell it, the page is read with the counting."""
    found = select(catalog, query)
    if found.selection is None:
        return found, None
    reader, page, columns = held().reader, None, query.fields or COLUMNS
    window = Window(query.order.lstrip("-"), query.order.startswith("-"), query.limit, query.offset or 0, place)
    if found.selection.filters.keys() - set(COUNTED):
        key = (scope(query), version_of(catalog, query.source, query.source_type))
        counted = known(held().cache, key)
        if counted is None:
            total, page = count_page(reader, found.selection, window, columns)
            counted = total, page is not None
            remember(held().cache, key, counted, len(key[0]))
        found = replace(found, total=counted[0], exact=counted[1])
    if page is None and found.selection and found.total:
        page = list_page(reader, found.selection, replace(window, way=ways(found, query)), columns)
    return found, page


def make_page(catalog: Catalog, query: DataQuery, place: Place | None) -> Body:
    """Read a page and write all of its answer that is the same for everybody."""
    try:
        found, page = find(catalog, query, place)
    except ValueError as error:
        raise refused(str(error)) from error
    except TimeoutError as error:
        told = "so many records are not put into this order in time: leave sort out, or filter further"
        raise Problem(503, told, headers={"Retry-After": str(RETRY_AFTER)}) from error
    following = write_cursor(page.last, scope(query)) if page and page.last else None
    paging = PagingAnswer(
        limit=query.limit,
        offset=None if query.cursor else query.offset or 0,
        total=found.total,
        total_is="exact" if found.exact else "estimate",
        next_cursor=following,
        next=address(query, following) if following else None,
    )
    return Body(b'"paging":%b,"data":[%b]}' % (paging.model_dump_json().encode(), page.body if page else b""), paging.next)


def address(query: DataQuery, cursor: str) -> str:
    """The address of the page behind a cursor, with everything else as it was asked."""
    given: Mapping[str, Any] = query.model_dump(mode="json", exclude_unset=True, exclude={"cursor", "offset", "fields"})
    given = {**given, **({"fields": ",".join(query.fields)} if query.fields else {}), "cursor": cursor}
    return f"/data?{urlencode(given, safe=',:')}"
