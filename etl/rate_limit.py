"""The request budget of a source, kept in Postgres so that all processes of one database share it."""

from __future__ import annotations

from dataclasses import dataclass

from shared.db import Connection, driver_errors_named, fetch_one
from shared.model import RateLimit
from sql import queries


@dataclass(frozen=True, slots=True)
class Usage:
    """A source's limit, as its last call was counted against, and the calls of the period that ends now."""

    calls_per_period: int
    period_seconds: float
    current_calls: int


@driver_errors_named()
def take_call(conn: Connection, source: str, limit: RateLimit) -> float:
    """Take one call from the budget: 0 when it may go out now, else the seconds until it is worth asking again."""
    params = {"source": source, "limit": limit.calls, "seconds": limit.seconds}
    if fetch_one(conn, queries["take_call"], params):
        return 0.0
    wait = fetch_one(conn, queries["get_call_wait"], params)
    return float(next(iter(wait.values()))) if wait else 0.01


@driver_errors_named()
def get_usage(conn: Connection, source: str) -> Usage | None:
    """How much of its limit a source has used, None before its first call."""
    row = fetch_one(conn, queries["get_rate_limit"], {"source": source})
    return Usage(row["calls_per_period"], row["period_seconds"], row["current_calls"]) if row and row["calls_per_period"] else None
