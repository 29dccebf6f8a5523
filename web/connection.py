"""One connection of the API to Postgres: it cannot write, and no wait on it is without an end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.waiting import Ready

from sql import queries

LONGEST = 1400
"""Milliseconds a statement may take: the server ends it."""
LOCKED = 1000
"""Milliseconds a statement waits for a lock."""
OPTIONS = (
    f"-c default_transaction_read_only=on -c statement_timeout={LONGEST} -c lock_timeout={LOCKED} "
    f"-c idle_in_transaction_session_timeout=5000 -c timezone=UTC"
)


class Overdue(psycopg.OperationalError):
    """The server let the time pass that a read has, and said nothing."""


@dataclass(slots=True)
class Heard:
    """When the server last said something, on whichever of a process's connections (monotonic)."""

    at: float = -math.inf


class Connection(psycopg.Connection[DictRow]):
    """A connection whose waits end at `until` (monotonic), or each after `silence` seconds, whatever server, network or locks do."""

    until: float = math.inf
    silence: float = math.inf
    outage: int = 0
    heard: Heard = Heard()

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server, but not for longer than that: then close the connection and raise Overdue."""
        if self.until == self.silence == math.inf:
            return super().wait(gen, *args, **kwargs)
        try:
            state = next(gen)
        except StopIteration as end:  # it is here already, as most rows of an export are
            return end.value
        try:
            return super().wait(bounded(gen, state, min(self.until, time.monotonic() + self.silence), self.heard), *args, **kwargs)
        except Overdue:
            self.close()
            raise


def connect(dsn: str) -> Connection:
    """Open a connection that cannot write. Behind a pooler that takes no options, `guarded` says so to each transaction.

    Statements are prepared only where the server itself took our options: a pooler may give each transaction another server.
    """
    given = conninfo.conninfo_to_dict(dsn)
    ours = {"application_name": "kasparro-api", "connect_timeout": 2, "tcp_user_timeout": 5000}
    ours = {name: value for name, value in ours.items() if name not in given}
    ours["client_encoding"] = "UTF8"  # whatever PGCLIENTENCODING says: what the server sends goes out as it stands
    options = f"{given.get('options', '')} {OPTIONS}".strip()
    try:
        conn = Connection.connect(dsn, autocommit=True, row_factory=dict_row, options=options, **ours)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" not in str(error):
            raise
        conn = Connection.connect(dsn, autocommit=True, row_factory=dict_row, **ours)  # type: ignore[arg-type]
    conn.read_only, conn.isolation_level = True, psycopg.IsolationLevel.REPEATABLE_READ
    conn.prepare_threshold = 5 if is_read_only(conn) else None
    return conn


@contextmanager
def guarded(conn: Connection) -> Iterator[None]:
    """Run a block where nothing can be written and nothing takes long, whatever stands between us and the server."""
    if is_read_only(conn):
        yield
        return
    with conn.transaction():
        conn.execute(queries["bound_read"], {"statement": str(LONGEST), "lock": str(LOCKED)})
        yield


def is_read_only(conn: Connection) -> bool:
    """Whether the server itself took the session for read-only; a pooler that dropped the options did not pass that on."""
    return conn.info.parameter_status("default_transaction_read_only") == "on"


def bounded(gen: Any, state: Any, until: float, heard: Heard) -> Any:
    """Pass on a wait of the driver that has begun, which wakes up every tenth of a second; raise Overdue once it does so after `until`."""
    try:
        while True:
            ready = yield state
            now = time.monotonic()
            if not ready and now > until:
                raise Overdue("the server did not answer in time")
            if ready & Ready.R:
                heard.at = now
            state = gen.send(ready)
    except StopIteration as end:
        return end.value
