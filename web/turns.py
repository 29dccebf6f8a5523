"""Turns: how many requests of a process are worked on at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

TURNS = 2
"""One that runs and one that waits for the database: more would only keep each other waiting for Python's lock."""
PATIENCE = 0.01
"""Seconds after which a request goes on without a turn, because those that have one take long."""


def in_turn(app: WSGIApplication) -> WSGIApplication:
    """Let an app answer few requests at once. What a stream sends after its beginning takes no turn."""
    turns = threading.BoundedSemaphore(TURNS)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        mine = turns.acquire(timeout=PATIENCE)
        try:
            return app(environ, start_response)
        finally:
            if mine:
                turns.release()

    return serve
