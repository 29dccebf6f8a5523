"""Databases on the server that is measured, the command on them, and what it left in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

from benchmarks.cpu import Used, measured
from benchmarks.dataset import fill
from shared.db import connect
from shared.migrations import migrate

COMMAND = Path(sys.executable).parent / "kasparro-etl"
FREE = {"COINPAPRIKA_RATE_LIMIT": "100000/1", "COINGECKO_RATE_LIMIT": "100000/1", "RSS_RATE_LIMIT": "100000/1"}
"""A limit of calls would be measured instead of what is behind it."""
BOOKKEEPING = ("etl_runs", "etl_checkpoints", "etl_rate_limits", "etl_batches", "run_totals", "source_profiles")
WRITTEN = """
select relname as name, n_tup_ins + n_tup_upd + n_tup_del as rows from pg_stat_user_tables where relname <> all (%(bookkeeping)s)
"""
numbers = count()


@dataclass(frozen=True, slots=True)
class Written:
    """What was written so far: rows by table, but for the bookkeeping of runs, and bytes of the write-ahead log."""

    rows: dict[str, int]
    wal: int

    @property
    def total(self) -> int:
        """Rows of all tables."""
        return sum(self.rows.values())

    def since(self, before: Written) -> Written:
        """What was written after another moment."""
        more = {name: count - before.rows.get(name, 0) for name, count in self.rows.items()}
        return Written({name: count for name, count in more.items() if count}, self.wal - before.wal)


@contextmanager
def fresh(dsn: str, template: str = "") -> Iterator[str]:
    """Lend a migrated database, or a copy of another; it is dropped at the end."""
    name = f"bench_{os.getpid()}_{next(numbers)}"
    with connect(dsn, "benchmark") as conn:
        conn.execute(f"create database {name} {f'template {template} strategy file_copy' if template else ''}".encode())
    own = named(dsn, name)
    try:
        if not template:
            with connect(own, "benchmark") as conn:
                migrate(conn)
        yield own
    finally:
        with connect(dsn, "benchmark") as conn:
            conn.execute(f"drop database {name} with (force)".encode())


@contextmanager
def filled(dsn: str, rows: int) -> Iterator[str]:
    """Lend a database with so many generated records and a tenth of that in runs; made once a server, a copy of it each time."""
    name = f"bench_{os.getpid()}_filled_{rows}"
    with connect(dsn, "benchmark") as conn:
        known = conn.execute("select from pg_database where datname = %s", [name]).rowcount
        if not known:
            conn.execute(f"create database {name}".encode())
    if not known:
        own = named(dsn, name)
        with connect(own, "benchmark") as conn:
            migrate(conn)
        fill(own, rows, rows // 10)
    with fresh(dsn, name) as own:
        yield own


def named(dsn: str, database: str) -> str:
    """The same server, another database."""
    parts = conninfo_to_dict(dsn)
    user = quote(str(parts.pop("user", "")), safe="")
    rest = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in parts.items() if key != "dbname")
    return f"postgresql://{user}{user and '@'}/{database}?{rest}"


def etl(dsn: str, *arguments: str | Path, settings: Mapping[str, str] = {}, times: int = 1) -> Used:
    """Run the command with these settings, or so many of it at once, and tell what it cost."""
    return measured([COMMAND, *arguments, "--quiet"], environment(dsn, settings), dsn, times=times)


def environment(dsn: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of the command: these settings alone, without a limit of calls."""
    return {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, **FREE, **settings}


def written(dsn: str) -> Written:
    """What was written to a database so far, as sessions that have ended reported it, and by the server to its log."""
    with connect(dsn, "benchmark") as conn:
        rows = {row["name"]: row["rows"] for row in conn.execute(WRITTEN, {"bookkeeping": list(BOOKKEEPING)}).fetchall()}
        wal = conn.execute("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as bytes").fetchone()
    assert wal
    return Written(rows, wal["bytes"])
