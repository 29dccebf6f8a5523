"""The door to Postgres for the API: a connection a thread, answers in time or not at all, the driver's errors in our words. No HTTP."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.rows import DictRow, dict_row

from shared.errors import DatabaseError, SchemaError
from sql import queries
from web.connection import Connection as Connection
from web.connection import Heard, Overdue, connect, guarded

T = TypeVar("T")
log = structlog.get_logger()

PATIENCE = 1.6
"""Seconds all statements of a read may take together: we give up on a server that does not even refuse."""
CONNECTING = 1.0
"""Seconds connecting may take."""
QUIET = 0.5
"""Seconds between two attempts to reach a database that is down; every read in between fails at once."""
LOST = (psycopg.OperationalError, psycopg.InterfaceError)
SLOW = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
OTHER_SCHEMA = "the schema is not the one this version reads: run `kasparro-etl migrate`"
TOO_LONG = "the database took too long to answer"
UNMIGRATED = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)


@dataclass(slots=True)
class Reader:
    """The way to one database: its address, each thread's connection, when it last said something, and whether it is down."""

    dsn: str
    local: threading.local = field(default_factory=threading.local)
    heard: Heard = field(default_factory=Heard)
    attempt: threading.Lock = field(default_factory=threading.Lock)
    down: bool = False
    retry_at: float = 0.0
    outages: int = 0


def open_reader(dsn: str) -> Reader:
    """Name the database to read. Nothing is connected yet."""
    return Reader(dsn)


def read(reader: Reader, work: Callable[[Connection], T], patience: float = PATIENCE) -> T:
    """Do some reading on this thread's connection, in `patience` seconds; repeat it once when a kept connection turns out to be dead.

    Raises DatabaseError when the database is down, full, slow or closed to us, SchemaError when its tables are not those of this version.
    """
    began = time.monotonic()
    until = began + patience
    while True:
        conn, kept = connection(reader, until)
        conn.until = until
        try:
            with guarded(conn):
                return work(conn)
        except Overdue as overdue:
            if reader.heard.at < began:
                note_outage(reader)
                raise DatabaseError("the database does not answer", passing=True) from overdue
            raise DatabaseError(TOO_LONG, passing=True) from overdue  # it answers others, or answered us before: this read alone is lost
        except SLOW as slow:
            raise DatabaseError(TOO_LONG, passing=True) from slow
        except UNMIGRATED as missing:
            raise SchemaError(OTHER_SCHEMA) from missing
        except psycopg.errors.InsufficientPrivilege as closed:
            raise DatabaseError("the role may not read the tables: grant it select on them") from closed
        except (*LOST, psycopg.errors.FeatureNotSupported) as lost:  # the latter: a migration changed what a prepared statement returns
            forget(reader)
            if not kept:
                raise DatabaseError("the database was lost while it was read", passing=True) from lost
        finally:
            conn.until = math.inf


def rows(reader: Reader, query: Any, params: Any = None) -> list[DictRow]:
    """Run one statement and return its rows. Raises as `read` does."""
    return read(reader, lambda conn: conn.execute(query, params).fetchall())


@contextmanager
def snapshot(conn: Connection) -> Iterator[None]:
    """Let the statements of a block see the tables at one and the same instant."""
    with nullcontext() if conn.info.transaction_status else conn.transaction():
        yield


def connection(reader: Reader, until: float) -> tuple[Connection, bool]:
    """This thread's connection, and whether it was there before. Raises DatabaseError.

    While the database is down one thread at a time tries to reach it, and all others fail at once: no queue of waiting requests builds up.
    """
    kept: Connection | None = getattr(reader.local, "conn", None)
    if kept is not None and not kept.closed and kept.outage == reader.outages:
        return kept, True
    forget(reader)
    trying, began = reader.down, time.monotonic()
    if trying and (time.monotonic() < reader.retry_at or not reader.attempt.acquire(blocking=False)):
        raise DatabaseError("the database cannot be reached", passing=True)
    try:
        reader.local.conn = conn = connect_within(reader.dsn, min(CONNECTING, until - time.monotonic()))
        conn.outage, conn.heard = reader.outages, reader.heard
        if reader.down:
            log.info("database reached")
        reader.down = False
    except (psycopg.Error, TimeoutError) as error:
        if not (isinstance(error, TimeoutError) and reader.heard.at > began):  # a server that answers others is slow, not gone
            reader.down, reader.retry_at = True, time.monotonic() + QUIET
        raise DatabaseError("the database cannot be reached", passing=True) from error
    finally:
        if trying:
            reader.attempt.release()
    return conn, False


def note_outage(reader: Reader) -> None:
    """Take every connection of the process for lost: a server that kept one of us waiting and told the others nothing keeps all of us."""
    reader.outages += 1
    reader.down, reader.retry_at = True, time.monotonic() + QUIET
    forget(reader)


def connect_within(dsn: str, seconds: float) -> Connection:
    """Connect in a thread of its own, for looking up a name or a host has no timeout. Raises TimeoutError and psycopg's errors."""
    opened: Future[Connection] = Future()

    def work() -> None:
        try:
            conn = connect(dsn)
        except Exception as error:
            if opened.set_running_or_notify_cancel():
                opened.set_exception(error)
            return
        if opened.set_running_or_notify_cancel():
            opened.set_result(conn)
        else:
            conn.close()

    threading.Thread(target=work, daemon=True, name="connect").start()
    try:
        return opened.result(max(seconds, 0.05))
    except TimeoutError:
        if opened.cancel():
            raise
        return opened.result()


def forget(reader: Reader) -> None:
    """Close this thread's connection; the next use opens another."""
    conn = getattr(reader.local, "conn", None)
    reader.local.conn = None
    with suppress(psycopg.Error):
        if conn is not None:
            conn.close()


def read_within(conn: Connection, bounded: bytes, values: Mapping[str, Any]) -> list[DictRow]:
    """Send a statement behind another that bounds it, both in one message, and read its rows. Raises TimeoutError when it takes longer."""
    whole = conn.transaction() if conn.info.transaction_status else nullcontext()
    try:
        with whole, psycopg.ClientCursor(conn, row_factory=dict_row) as cursor:
            cursor.execute(bounded + b";" + queries["end_bounded"], values)
            cursor.nextset()
            return cursor.fetchall()
    except psycopg.errors.QueryCanceled as slow:
        raise TimeoutError("the statement took longer than its bounds allow") from slow
