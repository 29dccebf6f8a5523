"""gunicorn's threaded worker, with its refusals of what is no request as problem+json and a line in our log."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import structlog
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from web.access import HEADERS
from web.dashboard import ending

log = structlog.get_logger()

REFUSALS: dict[type[Exception], tuple[int, str]] = {
    errors.LimitRequestLine: (414, "the address is too long"),
    errors.LimitRequestHeaders: (431, "the headers are too large"),
    errors.ExpectationFailed: (417, "this expectation is not met here"),
    errors.UnsupportedTransferCoding: (501, "this transfer coding is not supported"),
    errors.ForbiddenProxyRequest: (403, "this proxy is not allowed"),
}
OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)
"""Faults of the app, whatever the client sent."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """A worker that answers errors in our form, and lets go of those who listen when it is asked to end."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End the streams of events, which would hold up the end, then end as usual."""
        ending.set()
        super().handle_exit(sig, frame)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer what could not be read as a request, or could not be answered, and log it without what the client sent."""
        request_id = uuid.uuid4().hex
        status, detail = refusal(exc)
        facts = {"status": status, "reason": type(exc).__name__, "client": addr[0] if addr else "", "request_id": request_id}
        if status == 500:
            log.error("request crashed", exc_info=exc, **facts)
        else:
            log.info("request refused", **facts)
        with suppress(OSError):
            client.sendall(answer(status, detail, request_id))


def refusal(exc: Exception) -> tuple[int, str]:
    """The status and the sentence for a failure."""
    if isinstance(exc, errors.ParseException) and not isinstance(exc, OURS):
        return next((told for kind, told in REFUSALS.items() if isinstance(exc, kind)), (400, "this is not a request as HTTP has it"))
    return 500, "something went wrong here: the log has it under this request_id"


def answer(status: int, detail: str, request_id: str) -> bytes:
    """A whole response."""
    phrase = HTTPStatus(status).phrase
    told = {"type": "about:blank", "title": phrase, "status": status, "detail": detail, "request_id": request_id}
    body = json.dumps(told).encode()
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Request-ID": request_id,
        **HEADERS,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode("ascii") + body
