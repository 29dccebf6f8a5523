"""The request budget of a source, kept in Postgres so that all processes of one database share it."""

from __future__ import annotations

from shared.db import Connection, fetch_one
from shared.model import RateLimit
from sql import queries


def take_call(conn: Connection, source: str, limit: RateLimit) -> float:
    """Take one call from the budget: 0 when it may go out now, else the seconds until it is worth asking again."""
    params = {"source": source, "limit": limit.calls, "seconds": limit.seconds}
    if fetch_one(conn, queries["take_call"], params):
        return 0.0
    wait = fetch_one(conn, queries["get_call_wait"], params)
    return float(next(iter(wait.values()))) if wait else 0.01
