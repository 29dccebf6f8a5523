"""`GET /data/export`: every record that the filters leave, as CSV or NDJSON, streamed straight from Postgres."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Literal

from flask import Blueprint, Response, request
from pydantic import Field

from shared.errors import DatabaseError
from web.catalog import current
from web.conditional import held
from web.data import select
from web.data_query import Filters
from web.endpoints import endpoint
from web.errors import Problem
from web.queries import export
from web.statements import COLUMNS, Selection

blueprint = Blueprint("export", __name__)
TYPES = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}
MOST = 2
"""Exports a process makes at a time, so that they never take all its threads."""
NOTHING = Selection((), {})
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that has the client told of an error, and not of an end, when the connection is closed."""
places = threading.BoundedSemaphore(MOST)


class ExportQuery(Filters):
    """Which records, in which form."""

    format: Literal["csv", "ndjson"] = Field("csv", description="csv, safe to open as a spreadsheet, or a JSON object a line")


@blueprint.get("/data/export")
@endpoint("Export records, in no particular order", query=ExportQuery, produces=tuple(TYPES.values()), sends=("Content-Disposition",))
def export_data(query: ExportQuery) -> Response:
    """Stream the records; the first bytes are read before anything is answered, so that what cannot begin is an error."""
    headers = {"Content-Disposition": f'attachment; filename="data.{query.format}"', "Cache-Control": "no-store"}
    found = select(current(held().watch), query)
    if request.method == "HEAD":  # the body is an iterator, for of a list its length would be told
        return Response(iter(()), headers=headers, content_type=TYPES[query.format])
    if not places.acquire(blocking=False):
        raise Problem(503, f"{MOST} exports are under way here: try again in a moment", headers={"Retry-After": "10"})
    stream = placed(export(held().reader, found.selection or NOTHING, query.fields or COLUMNS, query.format))
    whole = chain([next(stream)], unbroken(stream, request.environ.get("gunicorn.socket")))
    response = Response(whole, headers=headers, content_type=TYPES[query.format])
    response.call_on_close(stream.close)
    return response


def placed(stream: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Pass a stream on and give its place back when it ends: at its end, in an error, or when the client is gone."""
    try:
        yield from stream
    finally:
        places.release()


def unbroken(stream: Iterator[bytes], client: socket.socket | None) -> Iterator[bytes]:
    """Pass on what follows the first piece; a database that is lost by then resets the connection. Raises DatabaseError.

    Over HTTP/1.0 nothing else tells a file that was cut, perhaps at the end of a line, from a whole one.
    """
    try:
        yield from stream
    except DatabaseError:
        if client is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
        raise
