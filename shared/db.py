"""The door to Postgres for the ETL: connect, open a database for a command, and turn lost connections into one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg import conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from shared import embedded
from shared.errors import DatabaseError
from shared.settings import Settings

Connection: TypeAlias = "psycopg.Connection[DictRow]"
Json = Jsonb

UNREACHABLE = "database unreachable: {}: check that it runs and that DATABASE_URL names it"
LOST = "database connection lost: {}: what was committed is safe, run the same command again to go on"
GAVE_UP = "the database gave up on a statement: {}: what was committed is safe, run the same command again to go on"


def connect(dsn: str, name: str) -> Connection:
    """Open one connection that commits by itself outside `with conn.transaction()`; `name` is shown in pg_stat_activity.

    No statement is prepared on the server, so a transaction-mode pooler may stand in between.
    Raises DatabaseError without repeating the address: it may hold a password.
    """
    try:
        conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise DatabaseError("DATABASE_URL is not a Postgres address: write postgresql://user:password@host:5432/name") from None
    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,
            application_name=name,
            connect_timeout=10,
            keepalives_idle=30,
        )
    except psycopg.OperationalError as error:
        raise DatabaseError(UNREACHABLE.format(one_line(error))) from None


@contextmanager
def database(settings: Settings, name: str) -> Iterator[Connection]:
    """Open the database a command works on: `DATABASE_URL`, else the embedded one, running as long as the block does."""
    if settings.database_url:
        with connection(settings.database_url.get_secret_value(), name) as conn:
            yield conn
        return
    with embedded.serve(settings.home) as dsn, connection(dsn, name) as conn:
        yield conn


@contextmanager
def connection(dsn: str, name: str) -> Iterator[Connection]:
    """Connect for the length of a block; a connection lost inside it becomes a DatabaseError."""
    conn = connect(dsn, name)
    try:
        with driver_errors_named():
            yield conn
    finally:
        conn.close()


@contextmanager
def driver_errors_named() -> Iterator[None]:
    """Turn the driver's errors about the connection or the server's state into a DatabaseError. Also a decorator."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseError((GAVE_UP if error.sqlstate else LOST).format(one_line(error))) from error


def fetch_one(conn: Connection, query: bytes, params: dict[str, Any] | None = None) -> DictRow | None:
    """Run one statement and return its first row, or None."""
    return conn.execute(query, params).fetchone()


def one_line(error: BaseException) -> str:
    """The first line of an error's text, which for Postgres is its message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
