"""Every failure of a request as `application/problem+json` (RFC 9457), and the one table from errors to statuses."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from shared.errors import DatabaseError, SchemaError
from web.access import request_id
from web.sockets import TooSlow

log = structlog.get_logger()

RETRY_AFTER = 2
"""Seconds after which a client may ask again when the database could not answer."""


SENTENCES = {
    404: "there is nothing here: /docs lists the endpoints",
    405: "this method does not fit here: see the Allow header",
    413: "the body is too large",
    414: "the address is too long",
    415: "send the body as application/json",
    431: "the headers are too large",
    501: "this is not understood here",
}
"""What a client is told of the refusals of Flask itself."""


REQUESTS = ("Query", "Headers", "Body")
"""How the names of models end that validate what a client sent; any other that does not validate is a bug of ours."""
BURST = 30.0
"""Seconds for which an outage is reported once, however many requests meet it."""
reported: dict[tuple[type, bool], float] = {}
"""When each kind of outage, passing or not, was last reported by this process."""


class Problem(Exception):
    """What a view raises to answer with an error: a status, one sentence for the client, parameters at fault, headers."""

    def __init__(
        self, status: int, detail: str, *, errors: Sequence[Mapping[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers or {}


def install(app: Flask) -> None:
    """Answer every failure in one form."""
    app.register_error_handler(Problem, lambda p: problem(p.status, p.detail, p.errors, p.headers))
    app.register_error_handler(ValidationError, invalid)
    app.register_error_handler(DatabaseError, unavailable)
    app.register_error_handler(SchemaError, unavailable)
    app.register_error_handler(HTTPException, refused)
    app.register_error_handler(ParseException, unreadable)
    app.register_error_handler(Exception, crashed)


def problem(status: int, detail: str, errors: Sequence[Mapping[str, str]] = (), headers: Mapping[str, str] | None = None) -> Response:
    """Build the answer; it says nothing of SQL, paths, tracebacks or secrets."""
    told: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id(),
    }
    if errors:
        told["errors"] = list(errors)
    response = Response(json.dumps(told, ensure_ascii=False), status, mimetype="application/problem+json")
    response.headers.extend(headers or {})
    if status >= 400:
        response.headers["Cache-Control"] = "no-store"
    return response


def invalid(error: ValidationError) -> Response:
    """A parameter or a body that does not validate: every one at fault by its name, without its value."""
    if not error.title.endswith(REQUESTS):
        return crashed(error)
    reasons: dict[str, str] = {}
    for item in error.errors(include_input=False, include_url=False):
        name = str(item["loc"][0]) if item["loc"] else "body"
        reasons[name] = f"{reasons[name]}, or {reason_of(item)}" if name in reasons else reason_of(item)
    found = [{"parameter": name, "reason": reason} for name, reason in reasons.items()]
    names = ", ".join(reasons)
    return problem(400, f"not understood: {names}: see errors, and /docs for what is", found)


def reason_of(item: Mapping[str, Any]) -> str:
    """What is wrong with one parameter."""
    if item["type"] == "extra_forbidden":
        return "is not a parameter of this endpoint"
    told = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return told[:1].lower() + told[1:]


def unavailable(error: DatabaseError | SchemaError) -> Response:
    """The database is down, slow or not migrated: say when to come back. The cause is for the log."""
    note_outage(error)
    told = "the database cannot answer now: try again in a moment"
    if isinstance(error, SchemaError):
        told = "the database is not migrated: run `kasparro-etl migrate`"
    return problem(503, told, headers={"Retry-After": str(RETRY_AFTER)})


def note_outage(error: DatabaseError | SchemaError) -> None:
    """Report that the database could not answer, once for a burst of requests."""
    now, kind = time.monotonic(), (type(error), isinstance(error, DatabaseError) and error.passing)
    if now - reported.get(kind, -BURST) >= BURST:
        reported[kind] = now
        log.warning("database unavailable", reason=str(error), cause=type(error.__cause__).__name__)


def refused(error: HTTPException) -> Response:
    """What Flask itself refuses: an unknown path, a method that does not fit, a body too large."""
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After", "WWW-Authenticate")}
    if error.response is not None and error.code is None:
        return error.response  # type: ignore[return-value]
    return problem(error.code or 500, SENTENCES.get(error.code or 500, error.name.lower()), headers=kept)


def unreadable(error: ParseException) -> Response:
    """A body that does not come, or whose chunks are malformed."""
    if isinstance(error, TooSlow):
        return problem(408, "the body took too long to come", headers={"Connection": "close"})
    return problem(400, "the body is cut into chunks that cannot be read", headers={"Connection": "close"})


def crashed(error: Exception) -> Response:
    """A bug: the traceback is for the log, the client gets the request's id to ask about."""
    log.exception("request crashed", exc_info=error)
    return problem(500, "something went wrong here: the log has it under this request_id")
