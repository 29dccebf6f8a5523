"""The history of a CoinPaprika ticker. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from etl.backfill.history import Allowance, Ask, History, Request
from etl.json_array import excerpts, parse
from etl.source import Payload
from etl.sources.coinpaprika import PAPRIKA_PAID, SOURCE, base_url
from shared.settings import Settings

MOST = 5000
"""Points that one call gives at the most."""
FREE = {"1d": timedelta(days=365), "1h": timedelta(days=1), "5m": timedelta()}
"""How far back the free plan reaches (https://api.coinpaprika.com, `GET /tickers/{coin_id}/historical`)."""
REFUSALS = ("not allowed in this plan", "plan is too small")


def allowance(settings: Settings, interval: str) -> Allowance:
    """What the free plan allows; what a key does, only the provider knows."""
    if settings.coinpaprika_api_key or base_url(settings) == PAPRIKA_PAID:
        return Allowance(None, "how far a key reaches depends on its plan: https://coinpaprika.com/api/pricing")
    told = {"1d": "daily points of the last 365 days", "1h": "hourly points of the last day", "5m": "no 5-minute points"}
    return Allowance(FREE[interval], f"the free plan of CoinPaprika gives {told[interval]}: https://coinpaprika.com/api/pricing")


def request(settings: Settings, ask: Ask, _now: datetime) -> Request:
    """The call of a chunk. `interval` is always sent: its default is one that the free plan does not have."""
    headers = {"Accept": "application/json"}
    if settings.coinpaprika_api_key:
        headers["Authorization"] = settings.coinpaprika_api_key.get_secret_value()
    params = {"start": stamp(ask.since), "end": stamp(ask.until), "interval": ask.interval, "limit": str(MOST), "quote": "usd"}
    return Request(f"{base_url(settings)}/tickers/{quote(ask.external_id, safe='')}/historical", params, headers)


def stamp(moment: datetime) -> str:
    """A time as the provider reads it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def points(payload: Payload) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Take the array of points apart. Raises SourceError when the body is anything else."""
    values = list(parse(payload))
    cut = excerpts(payload, range(len(values)))
    for place, value in enumerate(values):
        point = value if isinstance(value, dict) else {}
        names = {"at": "timestamp", "price": "price", "market_cap": "market_cap", "volume": "volume_24h"}
        yield {ours: point.get(theirs) for ours, theirs in names.items()}, cut.get(place, json.dumps(value, default=str).encode())


HISTORY = History(
    source=SOURCE,
    windows={"1d": timedelta(days=365), "1h": timedelta(days=180), "5m": timedelta(days=15)},
    allowance=allowance,
    request=request,
    points=points,
    refusals=REFUSALS,
)
