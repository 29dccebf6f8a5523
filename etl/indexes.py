"""The indexes that only reads need: made when a command ends that left the first records, not kept while these come."""

from __future__ import annotations

import time

import structlog

from etl.errors import Stopped
from etl.stop import Stop, listening
from shared.db import Connection, Refused, driver_errors_named, fetch_one, one_line
from shared.errors import DatabaseError
from sql import queries

log = structlog.get_logger()

NOTED = 1.0
"""Seconds from which on the making is worth a line."""


def make_read_indexes(conn: Connection, stop: Stop) -> None:
    """Make what is missing. What cannot be made now, or before a stop is asked for, is left to the next command: nothing fails for it."""
    began = time.monotonic()
    try:
        while not stop.asked and make_one(conn, stop):
            pass
    except (DatabaseError, Refused) as error:
        log.warning("indexes left", reason=f"{one_line(error)}: the API reads more slowly until the next run has made them")
    except Stopped:
        log.warning("indexes left", reason="stopped on request: the API reads more slowly until the next run has made them")
    else:
        if (took := time.monotonic() - began) > NOTED:
            log.info("indexes made", seconds=round(took, 1))


@driver_errors_named()
def make_one(conn: Connection, stop: Stop) -> bool:
    """Make one index; false when none is missing. The server is told when we stop waiting."""
    try:
        with listening(stop):
            made = fetch_one(conn, queries["make_read_index"])
    except Stopped:
        conn.cancel_safe(timeout=1)
        conn.close()
        raise
    return bool(made and made["name"])
