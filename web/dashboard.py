"""`GET /`: one page that says whether all is well, and what a person must do; its files, and `/events`, which tells when it changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator

from flask import Blueprint, Flask, Response, current_app, request
from pydantic import Field

from shared.errors import DatabaseError, SchemaError
from web.board import STRIP, Board, board_of, current_board
from web.docs import KINDS, OURS, answer_file
from web.endpoints import Query, endpoint
from web.errors import Problem
from web.health import VERSION
from web.pages import HTML, TEXT, either, page
from web.parameters import Text

blueprint = Blueprint("dashboard", __name__)

FILES = ("pages.css", "dashboard.js")
EVENTS = "text/event-stream"
STREAMS = 4
"""Streams a process holds at a time: each takes one of its few threads."""
LASTS, LOOKS = 20.0, 1.0
"""Seconds after which a stream ends, for browsers come back by themselves; seconds between two looks at the board."""
slots = threading.BoundedSemaphore(STREAMS)
ending = threading.Event()
"""Set when the process is asked to end, which would wait for its streams otherwise."""


class BoardQuery(Query):
    """What to show."""

    source: Text | None = Field(None, description="only this source")


@blueprint.get("/")
@page
@endpoint("The dashboard", query=BoardQuery, produces=(HTML, TEXT), errors=(404,))
def show_dashboard(query: BoardQuery) -> Response:
    """Answer with the dashboard as a page, or as text for terminals."""
    whole = current_board()
    board = board_of(whole, query.source)
    if query.source and not board.sources:
        raise Problem(404, "there is no such source")
    facts = {"board": board, "now": board.now, "source": query.source, "seen": digest(whole)}
    return either("dashboard", **facts, version=VERSION, shown=STRIP)


@blueprint.get("/static/<name>")
@endpoint("A file of the pages", produces=(KINDS[".css"], KINDS[".js"]), sends=("ETag",))
def get_file(name: str) -> Response:
    """Answer with the style sheet or the script of the pages."""
    if name not in FILES:
        raise Problem(404, "there is nothing here: /docs lists the endpoints")
    return answer_file(OURS / name, KINDS[name[name.index(".") :]], max_age=60)


@blueprint.get("/events")
@endpoint("When the dashboard changed", produces=(EVENTS,), errors=(204,))
def stream_events() -> Response:
    """Answer with an event whenever the dashboard changed; with one event and the end to who does not ask for a stream by name.

    204 when this process holds as many streams as it may: the page is as good when it is loaded again.
    """
    current_board()
    lasting = EVENTS in request.accept_mimetypes.values()
    if lasting and not slots.acquire(blocking=False):
        return Response(status=204)  # browsers then do not ask again by themselves
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    response = Response(list_events(app, LASTS if lasting else 0.0), mimetype=EVENTS)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    if lasting:
        response.call_on_close(slots.release)
    return response


def list_events(app: Flask, lasts: float) -> Iterator[str]:
    """An event with a digest of the board, at once and when it has changed; comments between, so that a client that left is noticed."""
    yield "retry: 2000\n\n"
    ends, shown = time.monotonic() + lasts, ""
    while True:
        with app.app_context():
            seen = current_digest()
        yield f"data: {seen}\n\n" if seen != shown else ":\n\n"
        shown = seen
        if time.monotonic() >= ends or ending.wait(LOOKS):
            return


def current_digest() -> str:
    """A name for what the board says now."""
    try:
        return digest(current_board())
    except (DatabaseError, SchemaError):
        return "unavailable"


def digest(board: Board) -> str:
    """A name for what a board says, but for the time that passes."""
    runs = [(run["id"], run["status"], run["records_extracted"], run["batches"]) for run in board.runs]
    rest = [(each.state, each.quarantined, each.drift, each.overdue is None) for each in board.sources]
    return hashlib.blake2b(repr((runs, rest, len(board.drift))).encode(), digest_size=8).hexdigest()
