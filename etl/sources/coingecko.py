"""CoinGecko: the market list, 250 coins a page, ordered by market capitalisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from etl.json_array import Amount, NonNegative, Rank, ShortText, Stamp, Text, excerpts, identify, parse
from etl.source import Cursor, Fetch, Payload, Row, Source
from shared.addresses import named
from shared.model import RateLimit
from shared.settings import Settings

PER_PAGE = 250
PASSES = 2
"""Pages that may be asked again for each page read, at the most; a list that stands still costs none."""
KEYLESS_LIMIT = RateLimit(10, 60)
"""Nothing is documented without a key; 5 to 15 a minute were reported."""
DEMO_LIMIT = RateLimit(30, 60)
PRO_LIMIT = RateLimit(250, 60)
SNAPSHOT = timedelta(minutes=15)
"""How old an interrupted snapshot may be for its next page still to belong to it."""


class Market(BaseModel):
    """What we rely on in a market row (https://docs.coingecko.com, `GET /coins/markets`); any figure may be null."""

    model_config = ConfigDict(frozen=True)

    id: ShortText
    symbol: ShortText
    name: Text
    current_price: NonNegative
    market_cap: NonNegative = None
    market_cap_rank: Rank = None
    total_volume: NonNegative = None
    price_change_percentage_24h: Amount = None
    last_updated: Stamp


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was sent, with the ids of its coins in order and the lowest and highest rank on it."""

    payload: Payload
    ids: tuple[str, ...]
    ranks: tuple[int, int] | None


def extract(settings: Settings, fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
    """Fetch page after page until `COINGECKO_MAX_PAGES`, or until a page is not full.

    The list shifts while it is paged: a coin that climbs onto a page already read pushes another one down, which is then seen twice.
    So a page that repeats an id, or leaves a gap in the ranks, sends us back until we have found as many new ids as we may have missed.
    No conditional requests: the provider's ETag changes while the bytes stay the same.
    """
    now, last = datetime.now(UTC), settings.coingecko_max_pages
    fresh = "page" in cursor and now - datetime.fromisoformat(cursor["started"]) < SNAPSHOT
    number, started = (cursor["page"], cursor["started"]) if fresh else (1, now.isoformat())
    edge, top = (cursor.get("edge", []), cursor.get("top")) if fresh else ([], None)
    seen, spare, whole = set[str](edge), PASSES * (number - 1), number == 1
    while last == 0 or number <= last:
        page = ask(settings, fetch, number)
        missed, spare = count_missed(page, edge, top), spare + PASSES
        seen.update(page.ids)
        for back in range(number - 1, max(0, number - 1 - spare), -1):
            if missed <= 0:
                break
            again, spare = ask(settings, fetch, back), spare - 1
            if found := set(again.ids) - seen:
                yield replace(again.payload, cursor=position(number, started, edge, top))
            # after an interruption a new id may be one that the pages before it had
            missed, seen = missed - (len(found) if whole else 0), seen | found
        full = len(page.ids) >= PER_PAGE
        more = full and number != last
        edge, top = list(page.ids), page.ranks[1] if page.ranks else None
        end: Literal["", "whole", "capped"] = "" if more else "capped" if full else "whole"
        yield replace(page.payload, cursor=position(number + 1, started, edge, top) if more else {}, list_start=number == 1, list_end=end)
        if not more:
            return
        number += 1


def ask(settings: Settings, fetch: Fetch, number: int) -> Page:
    """Fetch one page. Raises FetchError, and SourceError when it is no list."""
    url, last = f"{settings.coingecko_base_url}/coins/markets", settings.coingecko_max_pages
    params = {"vs_currency": "usd", "order": "market_cap_desc", "per_page": str(PER_PAGE), "page": str(number)}
    body = fetch(url, params=params, headers=headers(settings)).body
    asked = f"{named(url)}?{'&'.join(f'{key}={value}' for key, value in params.items())}"
    payload = Payload(body, asked, {}, datetime.now(UTC), done=number, total=last)
    values = list(parse(payload))
    ranks = [value["market_cap_rank"] for value in values if isinstance(value, dict) and is_rank(value.get("market_cap_rank"))]
    ids = tuple(identify(value) or f"#{number}-{place}" for place, value in enumerate(values))
    return Page(payload, ids, (int(min(ranks)), int(max(ranks))) if ranks else None)


def is_rank(value: Any) -> bool:
    """Whether a value is a rank that can be compared; unranked coins have none."""
    return isinstance(value, Decimal) and value.is_finite() and 0 < value < 10**9


def count_missed(page: Page, edge: list[str], top: int | None) -> int:
    """How many coins may have climbed past us since the page before, by its ids (`edge`) and its highest rank (`top`)."""
    gap = page.ranks[0] - top - 1 if page.ranks and top else 0
    return max(len(set(page.ids) & set(edge)), gap)


def position(number: int, started: str, edge: list[str], top: int | None) -> dict[str, Any]:
    """Where an interrupted snapshot goes on, and what shows there whether the list has shifted meanwhile."""
    return {"page": number, "started": started, "edge": edge, "top": top}


def headers(settings: Settings) -> dict[str, str]:
    """The key in the header its host expects: the two kinds of key look alike, the host decides."""
    if not settings.coingecko_api_key:
        return {"Accept": "application/json"}
    name = "x-cg-pro-api-key" if is_pro(settings) else "x-cg-demo-api-key"
    return {"Accept": "application/json", name: settings.coingecko_api_key.get_secret_value()}


def is_pro(settings: Settings) -> bool:
    """Whether the settings name the host of the paid plans."""
    return (urlsplit(settings.coingecko_base_url).hostname or "").startswith("pro-api.")


def rate_limit(settings: Settings) -> RateLimit:
    """The limit of the plan that the settings show."""
    plan = PRO_LIMIT if is_pro(settings) else DEMO_LIMIT if settings.coingecko_api_key else KEYLESS_LIMIT
    return settings.coingecko_rate_limit or plan


def normalize(market: Market) -> Row:
    """A market row as a row. Symbols come in lower case; a market cap of 0 means that the supply is unknown."""
    return Row(
        kind="asset",
        external_id=market.id,
        symbol=market.symbol.upper(),
        name=market.name,
        category="cryptocurrency",
        price_usd=market.current_price,
        market_cap_usd=market.market_cap or None,
        volume_24h_usd=market.total_volume,
        percent_change_24h=market.price_change_percentage_24h,
        rank=market.market_cap_rank or None,
        url=None,
        tags=None,
        source_updated_at=market.last_updated,
    )


SOURCE = Source(
    name="coingecko",
    type="api",
    record=Market,
    extract=extract,
    parse=parse,
    normalize=normalize,
    identify=identify,
    excerpts=excerpts,
    reads_from=lambda settings: [named(f"{settings.coingecko_base_url}/coins/markets")],
    rate_limit=rate_limit,
)
