"""What surrounds every request: its id, its time, its line in the log, the headers every answer carries."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import structlog
from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import RequestEntityTooLarge, RequestURITooLarge

from web.state import state

log = structlog.get_logger()

VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LARGEST_BODY = 64 * 1024
LONGEST_ADDRESS = 8000
"""Characters of path and query; gunicorn refuses request lines over 8190."""
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-API-Key, X-Request-ID",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""On every answer that does not say its own; so no cache shows something for longer than it stands."""


class BoundedRequest(Request):
    """A request whose body is refused when it is too large, also when it comes in chunks: there the library cuts it off silently."""

    def get_data(self, *args: Any, **options: Any) -> Any:
        """The whole body. Raises RequestEntityTooLarge."""
        data = super().get_data(*args, **options)
        if self.content_length is None and len(data) >= LARGEST_BODY:
            raise RequestEntityTooLarge
        return data


def install(app: Flask) -> None:
    """Give every request an id, a log line and the headers."""
    app.request_class = BoundedRequest
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.before_request(begin)
    app.after_request(end)


def begin() -> None:
    """Start the clock, take over a valid id of the client's or make one, refuse an address too long. Raises RequestURITooLarge."""
    g.started, g.method = time.perf_counter(), request.method
    given = request.headers.get("X-Request-ID", "")
    g.request_id = request_id = given if VALID_ID.fullmatch(given) else uuid.uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    check_address()


def latency_ms() -> float:
    """Milliseconds since this request began."""
    started: float = g.started
    return round((time.perf_counter() - started) * 1000, 3)


def check_address() -> None:
    """Refuse an address that is too long. Raises RequestURITooLarge."""
    if len(request.full_path) > LONGEST_ADDRESS:
        raise RequestURITooLarge


def end(response: Response) -> Response:
    """Put the headers on and write the line; the query is left out, for people put keys there."""
    given = {name.lower() for name, _ in response.headers}
    ours = [(name, value) for name, value in HEADERS.items() if name.lower() not in given]
    response.headers.extend([("X-Request-ID", g.request_id), *ours])
    share(response)
    told = {"method": g.method, "path": request.path, "status": response.status_code, "latency_ms": latency_ms()}
    log.info("request served", **told, client=request.remote_addr)
    return response


def share(response: Response) -> None:
    """Let pages of the origins in API_CORS_ORIGINS read the answer; without that setting no other origin's page may."""
    origins = state().settings.api_cors_origins or ()
    if not origins:
        return
    response.vary.add("Origin")
    if request.origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = request.origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers.extend(PREFLIGHT)
