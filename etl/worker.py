"""The worker: executes what `POST /etl/run` queued, through the same loop as `run`, and waits for more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import structlog

from etl.errors import Locked
from etl.execute import run
from etl.indexes import make_read_indexes
from etl.lease import ATTEMPTS, backend
from etl.stop import Stop, listening, wait
from etl.work import Outcome, Work
from shared.db import Connection, Link, driver_errors_named, reconnect
from shared.errors import DatabaseError
from sql import queries

log = structlog.get_logger()

POLL = 10.0
"""Seconds after which a worker looks by itself: for what no notification told of, such as the request of a worker that died."""
RETRY = 1.0
"""Seconds between two looks at a database that is gone."""


def drain(link: Link, stop: Stop, works: Mapping[str, Work]) -> Iterator[Outcome]:
    """Execute what is queued, the oldest first, until nothing is left but for sources that others hold; `works` says for each how.

    Raises DatabaseError.
    """
    names = list(works)
    while not stop.asked and (waiting := list_queued(link.conn, names)):
        work = works[waiting[0]]
        outcome = run(replace(work, options=replace(work.options, trigger="api", queued=True)))
        if isinstance(outcome.error, Locked):
            names.remove(outcome.source)
        else:
            yield outcome
            make_read_indexes(link.conn, stop)


def attend(link: Link, stop: Stop, works: Mapping[str, Work]) -> Iterator[Outcome]:
    """Execute what is queued for as long as the process lives; a loss of the database that passes is outlived.

    Raises Stopped, and DatabaseError for a loss that does not pass.
    """
    gone = False
    while True:
        try:
            if gone:
                reconnect(link)
                log.info("database found")
                gone = False
            heard, conn = listen(link.conn), link.conn
            yield from drain(link, stop, works)
            if heard and link.conn is conn:
                wait_for_notification(conn, stop)
            elif not heard:
                wait(stop, POLL)
        except DatabaseError as lost:
            if not lost.passing:
                raise
            if not gone:
                log.warning("database lost", reason=str(lost))
            gone = True
            wait(stop, RETRY)


@driver_errors_named()
def list_queued(conn: Connection, sources: list[str]) -> list[str]:
    """Name the free sources that have something to do, the oldest request first."""
    rows = conn.execute(queries["list_queued"], {"sources": sources, "attempts": ATTEMPTS}).fetchall()
    return [row["source"] for row in rows]


@driver_errors_named()
def listen(conn: Connection) -> bool:
    """Ask to be notified. Not possible behind a pooler that gives each transaction another session: there only looking helps."""
    if backend(conn) is None:
        return False
    conn.execute(queries["listen_queue"])
    return True


@driver_errors_named()
def wait_for_notification(conn: Connection, stop: Stop) -> None:
    """Sleep until something is queued, or POLL seconds. Raises Stopped as soon as a stop is asked for."""
    with listening(stop):
        for _ in conn.notifies(timeout=POLL, stop_after=1):
            pass
