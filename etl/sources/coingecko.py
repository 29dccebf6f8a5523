"""CoinGecko: the market list, 250 coins a page, ordered by market capitalisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from etl.json_array import Amount, NonNegative, Rank, ShortText, Stamp, Text, excerpts, identify, parse
from etl.source import Cursor, Fetch, Payload, Row, Source
from shared.addresses import named
from shared.model import RateLimit
from shared.settings import Settings

PER_PAGE = 250
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


def extract(settings: Settings, fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
    """Fetch page after page until `COINGECKO_MAX_PAGES`, or until a page is not full.

    No conditional requests: the provider's ETag changes while the bytes stay the same.
    """
    url, now = f"{settings.coingecko_base_url}/coins/markets", datetime.now(UTC)
    page, started = 1, now.isoformat()
    if "page" in cursor and now - datetime.fromisoformat(cursor["started"]) < SNAPSHOT:
        page, started = cursor["page"], cursor["started"]
    last = settings.coingecko_max_pages
    while last == 0 or page <= last:
        params = {"vs_currency": "usd", "order": "market_cap_desc", "per_page": str(PER_PAGE), "page": str(page)}
        body = fetch(url, params=params, headers=headers(settings)).body
        asked = f"{named(url)}?{'&'.join(f'{key}={value}' for key, value in params.items())}"
        payload = Payload(body, asked, {}, datetime.now(UTC), done=page, total=last)
        full = sum(1 for _ in parse(payload)) >= PER_PAGE
        more = full and page != last
        after = {"page": page + 1, "started": started} if more else {}
        end: Literal["", "whole", "capped"] = "" if more else "capped" if full else "whole"
        yield replace(payload, cursor=after, list_start=page == 1, list_end=end)
        if not more:
            return
        page += 1


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
