"""CoinPaprika: the ticker of every active coin, in one response."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from etl.json_array import Amount, NonNegative, Rank, ShortText, Stamp, Text, excerpts, identify, parse
from etl.source import Cursor, Fetch, Payload, Row, Source
from shared.addresses import named
from shared.model import RateLimit
from shared.settings import PAPRIKA_FREE, Settings

PAPRIKA_PAID = "https://api-pro.coinpaprika.com/v1"
PLAN_LIMIT = RateLimit(10, 1)
"""Requests a second on every plan, by the provider's own word (https://github.com/coinpaprika)."""


class Quote(BaseModel):
    """The figures of a ticker in one currency."""

    model_config = ConfigDict(frozen=True)

    price: NonNegative
    volume_24h: NonNegative = None
    market_cap: NonNegative = None
    percent_change_24h: Amount = None


class Quotes(BaseModel):
    """The currencies asked for; we ask for US dollars."""

    model_config = ConfigDict(frozen=True)

    USD: Quote


class Ticker(BaseModel):
    """What we rely on in a ticker (https://api.coinpaprika.com, `GET /tickers`)."""

    model_config = ConfigDict(frozen=True)

    id: ShortText
    name: Text
    symbol: ShortText
    rank: Rank = None
    last_updated: Stamp
    quotes: Quotes


def base_url(settings: Settings) -> str:
    """The host of the plan: a key belongs to the paid host unless the settings name another one."""
    paid = settings.coinpaprika_api_key and settings.coinpaprika_base_url == PAPRIKA_FREE
    return PAPRIKA_PAID if paid else settings.coinpaprika_base_url


def extract(settings: Settings, fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
    """Fetch all tickers, unless upstream says that nothing changed since the last time.

    The provider sends a true `Last-Modified` and no ETag.
    """
    url = f"{base_url(settings)}/tickers"
    headers = {"Accept": "application/json"}
    if settings.coinpaprika_api_key:
        headers["Authorization"] = settings.coinpaprika_api_key.get_secret_value()
    if cursor.get("url") == named(url) and cursor.get("last_modified"):
        headers["If-Modified-Since"] = cursor["last_modified"]
    response = fetch(url, headers=headers)
    if response.status == 304:
        return
    after = {"url": named(url), "last_modified": response.headers.get("last-modified")}
    yield Payload(response.body, named(url), after, datetime.now(UTC), done=1, total=1, list_start=True, list_end="whole")


def normalize(ticker: Ticker) -> Row:
    """A ticker as a row. The provider writes 0 for an unknown rank or market cap."""
    usd = ticker.quotes.USD
    return Row(
        kind="asset",
        external_id=ticker.id,
        symbol=ticker.symbol,
        name=ticker.name,
        category="cryptocurrency",
        price_usd=usd.price,
        market_cap_usd=usd.market_cap or None,
        volume_24h_usd=usd.volume_24h,
        percent_change_24h=usd.percent_change_24h,
        rank=ticker.rank or None,
        url=None,
        tags=None,
        source_updated_at=ticker.last_updated,
    )


SOURCE = Source(
    name="coinpaprika",
    type="api",
    record=Ticker,
    extract=extract,
    parse=parse,
    normalize=normalize,
    identify=identify,
    excerpts=excerpts,
    reads_from=lambda settings: [named(f"{base_url(settings)}/tickers")],
    rate_limit=lambda settings: settings.coinpaprika_rate_limit or PLAN_LIMIT,
)
