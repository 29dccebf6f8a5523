"""What surrounds every request: its id, its time, its line in the log, the headers every answer carries."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import structlog
from flask import Flask, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge, RequestURITooLarge
from werkzeug.wsgi import get_path_info

from shared.settings import Settings
from web.state import state

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

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
OURS = tuple((name.lower(), (name, value)) for name, value in HEADERS.items())
"""The same as they are sent, each behind the name it is looked for by."""
REQUEST_ID, STARTED = "kasparro.request_id", "kasparro.started"
"""Where the environment of a request has its id, and when it began."""


class BoundedRequest(Request):
    """A request whose body is refused when it is too large, also when it comes in chunks: there the library cuts it off silently."""

    def get_data(self, *args: Any, **options: Any) -> Any:
        """The whole body. Raises RequestEntityTooLarge."""
        data = super().get_data(*args, **options)
        if self.content_length is None and len(data) >= LARGEST_BODY:
            raise RequestEntityTooLarge
        return data


def install(app: Flask, settings: Settings) -> None:
    """Give every request an id, a log line and the headers."""
    app.request_class = BoundedRequest
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.wsgi_app = surrounded(app.wsgi_app)  # type: ignore[assignment]
    app.before_request(check_address)
    if settings.api_cors_origins:
        app.after_request(share)


def surrounded(app: WSGIApplication) -> WSGIApplication:
    """Surround an app: it finds the request's id and start in the environment, and what it answers gets headers and a line in the log."""
    lines = log.bind()  # bound once: `log` itself puts a logger together for each line

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[STARTED] = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        environ[REQUEST_ID] = given if VALID_ID.fullmatch(given) else token_hex(16)
        structlog.contextvars.bind_contextvars(request_id=environ[REQUEST_ID])

        def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            lines.info("request served", **facts(environ, status))
            return start_response(status, completed(headers, environ[REQUEST_ID]), exc_info)

        return app(environ, begin)

    return serve


def completed(headers: list[tuple[str, str]], request_id: str) -> list[tuple[str, str]]:
    """The headers of an answer and those of ours that it does not have."""
    given = {name.lower() for name, _ in headers}
    return [*headers, ("X-Request-ID", request_id), *(header for name, header in OURS if name not in given)]


def facts(environ: WSGIEnvironment, status: str) -> dict[str, Any]:
    """What the line of a request says; the query is left out, for people put keys there."""
    asked = {"method": environ["REQUEST_METHOD"], "path": get_path_info(environ), "status": int(status[:3])}
    return asked | {"latency_ms": since(environ), "client": environ.get("REMOTE_ADDR")}


def this_request() -> Request:
    """This request itself, for who asks it several things: `request` is looked up anew at each of them."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def request_id() -> str:
    """The id of this request."""
    found: str = request.environ[REQUEST_ID]
    return found


def latency_ms() -> float:
    """Milliseconds since this request began."""
    return since(request.environ)


def since(environ: WSGIEnvironment) -> float:
    """Milliseconds since a request began."""
    started: float = environ[STARTED]
    return round((time.perf_counter() - started) * 1000, 3)


def check_address() -> None:
    """Refuse an address that is too long. Raises RequestURITooLarge."""
    environ = request.environ
    if len(environ["PATH_INFO"]) + len(environ["QUERY_STRING"]) > LONGEST_ADDRESS:
        raise RequestURITooLarge


def share(response: Response) -> Response:
    """Let pages of the origins in API_CORS_ORIGINS read the answer; without that setting no other origin's page may."""
    response.vary.add("Origin")
    if request.origin in (state().settings.api_cors_origins or ()):
        response.headers["Access-Control-Allow-Origin"] = request.origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers.extend(PREFLIGHT)
    return response
