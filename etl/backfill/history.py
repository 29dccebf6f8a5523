"""What a provider's history is to a backfill: how far a call reaches, what a plan allows, and a point of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from etl.json_array import NonNegative, read_number, read_stamp, read_year
from etl.source import Payload, Row, Source
from shared.settings import Settings

STEPS = {"1d": timedelta(days=1), "1h": timedelta(hours=1), "5m": timedelta(minutes=5)}
"""The distances between points that can be asked for."""
CATEGORY = "cryptocurrency"
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one chunk asks for: the points of an asset from `since` until before `until`."""

    external_id: str
    since: datetime
    until: datetime
    interval: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call: address without query, parameters, headers. The headers may hold a key."""

    url: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far back the plan that the settings show lets one look: a time, none at all (zero), or without a bound (None); in words."""

    reach: timedelta | None
    words: str


@dataclass(frozen=True, slots=True)
class History:
    """The historical endpoint of a source.

    `windows` tells for each interval the longest time that one call covers, `request` makes the call of a chunk (the time given is now).
    `points` takes a body apart: each point with its bytes as upstream sent them.
    `refusals` are the provider's words for what a plan does not allow.
    """

    source: Source
    windows: Mapping[str, timedelta]
    allowance: Callable[[Settings, str], Allowance]
    request: Callable[[Settings, Ask, datetime], Request]
    points: Callable[[Payload], Iterator[tuple[dict[str, Any], bytes]]]
    refusals: tuple[str, ...]


def read_moment(value: Any) -> datetime | None:
    """Accept a time as RFC 3339 text or as milliseconds since 1970. Raises ValueError."""
    if isinstance(value, Decimal):
        number = read_number(value)
        if number is None or not 0 <= number < 10**13:
            raise ValueError("expected milliseconds since 1970")
        return EPOCH + timedelta(milliseconds=int(number))
    text = read_stamp(value)
    if not isinstance(text, str):
        raise ValueError("expected a time such as 2026-01-31T12:00:00Z")
    return read_year(datetime.fromisoformat(text))


def read_required(value: Any) -> Any:
    """Refuse null: a point without a price is none. Raises ValueError."""
    if value is None:
        raise ValueError("expected a price")
    return value


class Point(BaseModel):
    """A point of an asset's history."""

    model_config = ConfigDict(frozen=True)

    at: Annotated[datetime, BeforeValidator(read_moment)]
    price: Annotated[NonNegative, BeforeValidator(read_required)]
    market_cap: NonNegative = None
    volume: NonNegative = None


def moment_of(point: Mapping[str, Any]) -> datetime | None:
    """When a point was, None when that cannot be read; validation says why."""
    try:
        return read_moment(point.get("at"))
    except ValueError:
        return None


def chosen(history: History, payload: Payload) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The points of a payload that its chunk asked for, in order of time; of daily ones the first of each day.

    The last point of a provider may be of now, beside the one of that day's beginning.
    """
    asked = payload.meta["history"]
    since, until = datetime.fromisoformat(asked["from"]), datetime.fromisoformat(asked["to"])
    found = [(moment_of(point), point, raw) for point, raw in history.points(payload)]
    days = set[Any]()
    for at, point, raw in sorted(found, key=lambda item: item[0] or EPOCH):
        if at is not None and not since <= at < until:
            continue
        if at is not None and asked["interval"] == "1d":
            if at.date() in days:
                continue
            days.add(at.date())
        yield point, raw


def view(history: History, external_id: str) -> Source:
    """The source as validation and quarantine see it when they look at points of one asset."""

    def normalize(point: Point) -> Row:
        cap = point.market_cap or None  # both providers write 0 for an unknown one
        return Row("asset", external_id, None, external_id, CATEGORY, point.price, cap, point.volume, None, None, None, None, point.at)

    def excerpts(payload: Payload, positions: Collection[int]) -> dict[int, bytes]:
        return {place: raw for place, (_, raw) in enumerate(chosen(history, payload)) if place in positions}

    return replace(
        history.source,
        record=Point,
        parse=lambda payload: (point for point, _ in chosen(history, payload)),
        normalize=normalize,
        identify=lambda _value: external_id,
        excerpts=excerpts,
    )
