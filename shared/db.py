"""The door to Postgres for the ETL: connect, open a database for a command, and turn lost connections into one clear line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from shared import embedded
from shared.errors import DatabaseError, SettingsError, TableLocked
from shared.settings import Settings

Connection: TypeAlias = "psycopg.Connection[DictRow]"
Json = Jsonb
Refused: TypeAlias = psycopg.Error
Lost = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
Forbidden = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)
"""The server does not let this role, or anybody here, write: trying again does not help."""

os.putenv("PGDATESTYLE", "ISO, MDY")
"""How dates are written, whatever the default of the database, the role or the caller: the driver reads no other way. Postgres' library
takes it from the environment alone, and sends it at connect, as it does the encoding, so that a pooler keeps it too."""

PASSING = ("08", "25P03", "40001", "40P01", "53300", "55P03", "57")
"""SQLSTATEs, or their classes, that trying again may mend: connection, serialization, deadlock, too many, lock, shutdown, timeout."""

ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""A server that is gone without a word is noticed within half a minute."""

UNREACHABLE = "database unreachable: {}: check that it runs, has a connection to spare, and that DATABASE_URL names it"
LOST = "database connection lost: {}: what was committed is safe, run the same command again to go on"
LockTimeout = psycopg.errors.LockNotAvailable
READ_ONLY = (
    "this connection may only read: {}: what was committed is safe, set DATABASE_URL to the ETL's address, not the API's or a standby's"
)
FORBIDDEN = (
    "the role may not do this: {}: what was committed is safe,"
    " set DATABASE_URL to the ETL's address, or run `kasparro-etl migrate --etl-role FILE` as the owner of the tables"
)
LOCKED = (
    "another session holds a lock on a table, as one that makes an index or alters it does: {}: what was committed is safe,"
    " run the same command again to go on"
)
GAVE_UP = "the database gave up on a statement: {}: what was committed is safe, run the same command again to go on"


def connect(dsn: str, name: str) -> Connection:
    """Open one connection that commits by itself outside `with conn.transaction()`; `name` is shown in pg_stat_activity.

    No statement is prepared on the server, so a transaction-mode pooler may stand in between.
    Raises DatabaseError, or SettingsError for what is no address, without repeating it: it may hold a password.
    """
    try:
        given = conninfo.conninfo_to_dict(dsn)
        ours = {"application_name": name, "connect_timeout": 10, **ALIVE}
        ours = {key: value for key, value in ours.items() if key not in given} | {"client_encoding": "utf8"}
        conn = psycopg.connect(dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None, **ours)  # type: ignore[arg-type]
    except psycopg.ProgrammingError:
        raise SettingsError(["DATABASE_URL: expected a Postgres address such as postgresql://user@host:5432/name"]) from None
    except (psycopg.Error, UnicodeError) as error:
        raise DatabaseError(UNREACHABLE.format(one_line(error)), passing=True) from None
    conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED  # whatever the database's default: who waited for a lock must see why
    return conn


@dataclass(slots=True)
class Link:
    """An address and the connection open to it now; `reconnect` replaces the connection, so nobody keeps it for long."""

    dsn: str
    name: str
    conn: Connection


@contextmanager
def database(settings: Settings, name: str) -> Iterator[Link]:
    """Open the database a command works on: `DATABASE_URL`, else the embedded one, running as long as the block does."""
    if settings.database_url:
        with linked(settings.database_url.get_secret_value(), name) as link:
            yield link
        return
    with embedded.serve(settings.home) as dsn, linked(dsn, name) as link:
        yield link


@contextmanager
def linked(dsn: str, name: str) -> Iterator[Link]:
    """Connect for the length of a block; a connection lost inside it becomes a DatabaseError."""
    link = Link(dsn, name, connect(dsn, name))
    try:
        with driver_errors_named():
            yield link
    finally:
        link.conn.close()


def reconnect(link: Link) -> None:
    """Drop the connection, whatever its state, and open another. Raises DatabaseError."""
    with suppress(psycopg.Error):
        link.conn.close()
    link.conn = connect(link.dsn, link.name)


@contextmanager
def driver_errors_named() -> Iterator[None]:
    """Turn the driver's errors about the connection or the server's state into a DatabaseError. Also a decorator."""
    try:
        yield
    except Forbidden as error:
        told = READ_ONLY if isinstance(error, psycopg.errors.ReadOnlySqlTransaction) else FORBIDDEN
        raise DatabaseError(told.format(one_line(error))) from error
    except LockTimeout as error:
        raise TableLocked(LOCKED.format(one_line(error)), passing=True) from error
    except Lost as error:
        state = getattr(error, "sqlstate", None)
        raise DatabaseError((GAVE_UP if state else LOST).format(one_line(error)), passing=not state or state.startswith(PASSING)) from error


@contextmanager
def one_moment(conn: Connection) -> Iterator[None]:
    """Open a transaction that sees the database as of one moment, and undo it at the end."""
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with conn.transaction(force_rollback=True):
            yield
    finally:
        with suppress(psycopg.Error):
            conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


def fetch_one(conn: Connection, query: bytes, params: dict[str, Any] | None = None) -> DictRow | None:
    """Run one statement and return its first row, or None."""
    return conn.execute(query, params).fetchone()


def one_line(error: BaseException) -> str:
    """The first line of an error's text, which for Postgres is its message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
