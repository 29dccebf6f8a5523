"""Checks of the database: what it is, whether it keeps what it is told, whether its bounds let a run work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from etl.doctor.finding import Finding, size
from etl.lease import HEARTBEAT, TTL, backend
from shared.db import Connection, fetch_one
from shared.errors import SchemaError
from shared.migrations import require_schema
from shared.settings import Settings
from sql import queries, read_migrations

OLDEST = 140_000
SKEW, GREAT_SKEW = 2.0, 60.0
"""Seconds that two clocks may differ; leases go by the database's alone, so even much is no danger to data."""
BATCH_TIMEOUT = 60_000
LONGEST_WAIT = 150_000
"""Milliseconds that a run may leave its session idle: an answer may take two minutes."""


def check_server(settings: Settings, conn: Connection) -> Iterator[Finding]:
    """Every check of the database itself."""
    yield connection(conn)
    yield (found := schema(conn))
    if found.mark == "✔":
        yield from role(settings, conn)
    yield from timeouts(conn)
    yield from durability(conn)
    yield pooler(conn)
    yield clock(conn)


def check_traces(settings: Settings, conn: Connection) -> Iterator[Finding]:
    """The checks that need our tables."""
    yield from leases(settings, conn)


def connection(conn: Connection) -> Finding:
    """Whether the server is one we work with, and how far away it is."""
    row = fetch_one(conn, queries["get_server"])
    assert row
    began = time.perf_counter()
    conn.execute(queries["get_backend"])
    took = (time.perf_counter() - began) * 1000
    way = "over a socket" if row["is_local"] else "over TLS" if row["is_encrypted"] else "without TLS"
    told = f"PostgreSQL {row['version']}, database {row['database']} ({size(row['bytes'])}) as {row['role']} {way}, {took:.1f} ms"
    if row["number"] < OLDEST:
        return Finding("✘", "connection", told, "move to PostgreSQL 14 or newer")
    if row["is_standby"]:
        return Finding("✘", "connection", f"{told}, a standby", "name the primary in DATABASE_URL")
    if row["connections"] > 0.9 * row["connections_most"]:
        used = f"{row['connections']} of {row['connections_most']} connections in use"
        return Finding("!", "connection", f"{told}, {used}", "raise max_connections, or use a pooler")
    return Finding("✔", "connection", told)


def schema(conn: Connection) -> Finding:
    """Whether the schema is this version's."""
    try:
        require_schema(conn)
    except SchemaError as error:
        found, _, fix = str(error).rpartition(": ")
        return Finding("✘", "schema", found, fix)
    return Finding("✔", "schema", f"at {read_migrations()[-1].name[:4]}, as this version needs")


def role(settings: Settings, conn: Connection) -> Iterator[Finding]:
    """Whether the role may do what it must, and not much more."""
    row = fetch_one(conn, queries["get_server"])
    missing = [one["name"] for one in conn.execute(queries["list_missing_rights"]).fetchall()]
    assert row
    if missing:
        step = "run `kasparro-etl migrate --etl-role FILE` as the owner, with this address in the file"
        yield Finding("✘", "role", f"{row['role']} may not use {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}", step)
    elif row["is_superuser"] and settings.database_url:
        yield Finding("!", "role", f"{row['role']} is a superuser", "make a role of its own that owns the database")
    else:
        yield Finding("✔", "role", f"{row['role']} may do what the ETL needs")


def server_settings(conn: Connection) -> dict[str, str]:
    """The settings that checks look at."""
    return {row["name"]: row["setting"] for row in conn.execute(queries["list_server_settings"]).fetchall()}


def timeouts(conn: Connection) -> Iterator[Finding]:
    """Whether a bound of the role or the server cuts a run."""
    told = server_settings(conn)
    found = []
    for name, least in (
        ("statement_timeout", BATCH_TIMEOUT),
        ("transaction_timeout", BATCH_TIMEOUT),
        ("idle_session_timeout", LONGEST_WAIT),
    ):
        if 0 < int(told.get(name, 0)) < least:
            step = f"alter role … set {name} = '{least // 1000}s', or 0"
            found.append(Finding("!", "timeouts", f"{name} is {int(told[name]) / 1000:g} s, which can cut a run short", step))
    if told.get("default_transaction_read_only") == "on":
        found.append(Finding("✘", "timeouts", "transactions are read-only", "set DATABASE_URL to the ETL's address, not the API's"))
    yield from found
    if not found:
        yield Finding("✔", "timeouts", "batches bound themselves: a lock 10 s, a statement 60 s, a silence 30 s")


def durability(conn: Connection) -> Iterator[Finding]:
    """Whether what was committed is on disk."""
    told = server_settings(conn)
    off = [name for name in ("fsync", "full_page_writes") if told.get(name) == "off"]
    if off:
        yield Finding("✘", "durability", f"{', '.join(off)} off: a crash can destroy the database", "set to on in postgresql.conf, reload")
    elif told.get("synchronous_commit") == "off":
        yield Finding(
            "!", "durability", "synchronous_commit off: a crash loses the last commits, the next run loads them again", "set to on"
        )
    elif told.get("data_checksums") == "off":
        yield Finding("!", "durability", "data checksums off: a bad disk goes unnoticed", "pg_checksums --enable while the server is down")
    else:
        commit = told.get("synchronous_commit")
        yield Finding("✔", "durability", f"fsync on, full_page_writes on, synchronous_commit {commit}, data checksums on")


def pooler(conn: Connection) -> Finding:
    """Whether the session is ours alone, which lets the next run see at once that a holder is gone."""
    if backend(conn) is None:
        return Finding(
            "!", "pooler", f"one stands in between: the lease of a killed run ends after {TTL:g} s, not at once", "connect directly"
        )
    return Finding("✔", "pooler", "none in between")


def clock(conn: Connection) -> Finding:
    """How far this machine's clock is from the database's."""
    before = datetime.now(UTC)
    row = fetch_one(conn, queries["get_clock"])
    assert row
    apart = abs((row["now"] - (before + (datetime.now(UTC) - before) / 2)).total_seconds())
    told = f"{apart:.1f} s apart from the database's"
    if apart > SKEW:
        return Finding("✘" if apart > GREAT_SKEW else "!", "clock", told, "let NTP set both clocks")
    return Finding("✔", "clock", told)


def leases(settings: Settings, conn: Connection) -> Iterator[Finding]:
    """Whether batches are short against the lease, and whether a run went away without closing."""
    row = fetch_one(conn, queries["get_slowest_batch"])
    slowest = row["seconds"] if row else 0.0
    for lapsed in conn.execute(queries["list_lapsed"]).fetchall():
        told = f"run {lapsed['run_id']} of {lapsed['source']} went away {lapsed['seconds'] / 60:,.0f} min ago without closing"
        yield Finding("!", "leases", told, f"kasparro-etl run --source {lapsed['source']} takes over")
    told = f"{TTL:g} s, renewed every {HEARTBEAT:g} s and with every batch; the slowest batch took {slowest:.1f} s"
    if slowest > TTL / 3:
        yield Finding("!", "leases", told, f"set ETL_BATCH_SIZE below {settings.etl_batch_size}")
    else:
        yield Finding("✔", "leases", told)
