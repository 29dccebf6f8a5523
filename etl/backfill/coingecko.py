"""The history of a CoinGecko coin: three arrays of `[milliseconds, number]` side by side. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from etl.backfill.history import Allowance, Ask, History, Request
from etl.errors import SourceError
from etl.json_array import decoder, shown, text
from etl.source import Payload
from etl.sources.coingecko import SOURCE, headers, is_pro
from shared.settings import Settings

REACH = timedelta(days=365)
SHORTEST = {"1d": timedelta(days=91), "1h": timedelta(days=2), "5m": timedelta()}
"""The length of the range decides the granularity: up to 1 day 5 minutes, up to 90 days an hour, beyond a day
(https://docs.coingecko.com, `GET /coins/{id}/market_chart/range`)."""
REFUSALS = ("allowed time range", "larger CoinGecko plan")
NAMES = {"prices": "price", "market_caps": "market_cap", "total_volumes": "volume"}


def allowance(settings: Settings, interval: str) -> Allowance:
    """What a key of the public host, or none, allows (error 10012)."""
    if is_pro(settings):
        return Allowance(None, "how far a key reaches depends on its plan: https://www.coingecko.com/en/api/pricing")
    return Allowance(REACH, "without a paid plan CoinGecko gives the last 365 days: https://www.coingecko.com/en/api/pricing")


def request(settings: Settings, ask: Ask, now: datetime) -> Request:
    """The call of a chunk. A range too short for the points asked for is made longer, into what is known already or into the past."""
    length = max(ask.until - ask.since, SHORTEST[ask.interval])
    until = max(ask.until, min(ask.since + length, now))
    since = min(ask.since, until - length)
    params = {"vs_currency": "usd", "from": str(int(since.timestamp())), "to": str(int(until.timestamp()))}
    return Request(f"{settings.coingecko_base_url}/coins/{quote(ask.external_id, safe='')}/market_chart/range", params, headers(settings))


def points(payload: Payload) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Join the three arrays by their times; a time that comes twice counts once, by its last figures. Raises SourceError."""
    found: dict[Any, dict[str, Any]] = {}
    arrays = read_arrays(payload)
    for theirs, ours in NAMES.items():
        for pair in arrays[theirs]:
            at, number = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
            key = None if isinstance(at, list | dict) else at
            if ours == "price" or key in found:
                found.setdefault(key, {"at": at})[ours] = number
    for point in found.values():
        yield point, json.dumps([point.get(name) for name in ("at", *NAMES.values())], default=str).encode()


def read_arrays(payload: Payload) -> dict[str, list[Any]]:
    """Read the body. Raises SourceError when it is no chart."""
    try:
        value = decoder.decode(text(payload))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{payload.url} did not answer with JSON ({shown(payload.body)}): try again later") from error
    if not isinstance(value, dict) or not isinstance(value.get("prices"), list):
        raise SourceError(f"{payload.url} did not answer with a chart ({shown(payload.body)}): check the address")
    return {name: value[name] if isinstance(value.get(name), list) else [] for name in NAMES}


HISTORY = History(
    source=SOURCE,
    windows={"1d": timedelta(days=365), "1h": timedelta(days=90), "5m": timedelta(days=1)},
    allowance=allowance,
    request=request,
    points=points,
    refusals=REFUSALS,
)
