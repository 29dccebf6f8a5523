"""Bugs to plant: a harness that does not find them proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from etl import load
from etl.batch import Batch
from etl.lease import Counts, Run
from etl.rows import write_rows
from etl.source import Source
from shared.db import Connection
from sql import queries


def none() -> None:
    """The program as it is."""


def checkpoint_apart() -> None:
    """The checkpoint moves in a transaction of its own, after the data."""

    def commit(conn: Connection, source: Source, run: Run, batch: Batch) -> tuple[Run, Counts]:
        with conn.transaction():
            raw_id = load.store_payload(conn, source, run, batch)
            inserted, updated = write_rows(conn, source, run, batch, raw_id)
            load.quarantine(conn, source, run, batch, raw_id)
        with conn.transaction():
            seq = load.advance(conn, run, batch)
            done = load.counts(batch, inserted, updated)
            load.trace(conn, run, batch, done, seq, raw_id)
        return replace(run, seq=seq, position=batch.after), done

    patch("commit", commit)


def checkpoint_first() -> None:
    """The checkpoint moves in a transaction of its own, before the data."""
    original = load.commit

    def commit(conn: Connection, source: Source, run: Run, batch: Batch) -> tuple[Run, Counts]:
        with conn.transaction():
            seq = load.advance(conn, run, batch)
        return original(conn, source, replace(run, seq=seq), batch)

    patch("commit", commit)


def counters_late() -> None:
    """The counters of a batch are written after its commit."""
    original = load.commit

    def commit(conn: Connection, source: Source, run: Run, batch: Batch) -> tuple[Run, Counts]:
        result = original(conn, source, run, batch)
        conn.execute(queries["count_run"], load.counted(run, result[1], batch))
        return result

    def trace(conn: Connection, run: Run, batch: Batch, done: Counts, seq: int, raw_id: int) -> None:
        place = {"source": run.source, "seq": seq, "raw_id": raw_id, "first": batch.first, "next": batch.first + batch.size}
        conn.execute(queries["insert_batch"], load.counted(run, done, batch) | place)

    patch("commit", commit)
    patch("trace", trace)


def patch(name: str, planted: Callable[..., Any]) -> None:
    """Plant a bug in the load path."""
    setattr(load, name, planted)


MUTANTS: dict[str, Callable[[], None]] = {
    "none": none,
    "checkpoint-apart": checkpoint_apart,
    "checkpoint-first": checkpoint_first,
    "counters-late": counters_late,
}
