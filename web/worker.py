"""gunicorn's threaded worker, with its refusals of what is no request as problem+json and a line in our log."""

from __future__ import annotations

import json
import select
import selectors
import socket
import time
import uuid
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from web import shares
from web.access import HEADERS
from web.dashboard import ending
from web.sockets import TooSlow, bounded

log = structlog.get_logger()

REFUSALS: dict[type[Exception], tuple[int, str]] = {
    TooSlow: (408, "the request took too long to come"),
    errors.LimitRequestLine: (414, "the address is too long"),
    errors.LimitRequestHeaders: (431, "the headers are too large"),
    errors.ExpectationFailed: (417, "this expectation is not met here"),
    errors.UnsupportedTransferCoding: (501, "this transfer coding is not supported"),
    errors.ForbiddenProxyRequest: (403, "this proxy is not allowed"),
}
OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)
"""Faults of the app, whatever the client sent."""


LINGER = 2
"""Milliseconds a thread waits for the next request of the client it has answered, unless others wait for a thread."""
GIVEN_WAY = 0.0005
"""Seconds for which a worker leaves a new connection to those that have fewer."""
LEAVING, UNREAD = 2.0, 65536
"""Seconds for a client to close a connection that we ended, and bytes it may still send: else a reset could take the answer from it."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """A worker that takes its share of the connections, answers errors in our form, and lets go of those who listen when it is to end."""

    place = 0
    quitting = False
    wsgi: Any

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.leaving: dict[Any, int] = {}
        """Connections that we have ended, the first to expire first, with the bytes read from each since."""

    def load_wsgi(self) -> None:
        """Load the app, whose word that a connection ends is passed on to the client."""
        super().load_wsgi()
        self.wsgi = heeded(self.wsgi)

    def accept(self, listener: Any) -> None:
        """Take a new connection, or find that a worker with fewer has taken it: else who wakes up first takes all that come at once."""
        if self.nr_conns > shares.fewest():
            time.sleep(GIVEN_WAY)
        super().accept(listener)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Close what has had its time to leave, and tell the other workers how many connections there are here."""
        if self.leaving:
            timeout = min(timeout, max(next(iter(self.leaving)).timeout - time.monotonic(), 0.0))
        super().wait_for_and_dispatch_events(timeout)
        while self.leaving and (first := next(iter(self.leaving))).timeout <= time.monotonic():
            self.let_go(first)
        shares.tell(self.place, self.nr_conns)

    def handle(self, conn: Any) -> Any:
        """Answer a request, and the client's next ones by the same thread while they come at once.

        Else each goes back to the main thread, which hands it out anew: a third of what answering costs.
        """
        kept = self.serve(conn)
        while kept is True and self.tpool._work_queue.empty() and comes(conn):
            kept = self.serve(conn)
        return kept

    def serve(self, conn: Any) -> Any:
        """Answer one request, and wait for it only so long."""
        if not self.cfg.is_ssl:
            conn.sock = bounded(conn.sock)
        return super().handle(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with a connection whose request is answered. One to end is only watched: the library waits for the client to close it."""
        if self.cfg.is_ssl or fs.cancelled() or fs.exception() or fs.result() is not False:
            super().finish_request(conn, fs)
            return
        self.leaving[conn] = 0
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            conn.timeout = time.monotonic() + LEAVING
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.drain, conn))
        except OSError:  # it is gone already
            self.let_go(conn)

    def drain(self, conn: Any, client: Any) -> None:
        """Read what a client still sends on a connection that we have ended, and close it when that is enough."""
        with suppress(OSError):
            read = len(client.recv(UNREAD))
            self.leaving[conn] += read
            if read and self.leaving[conn] < UNREAD:
                return
        self.let_go(conn)

    def let_go(self, conn: Any) -> None:
        """Close a connection that we have ended."""
        del self.leaving[conn]
        with suppress(KeyError, ValueError):  # when it never came to be watched
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End the streams of events, which would hold up the end, then end as usual."""
        ending.set()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End the streams of events and then at once; a Ctrl-C comes twice, from the terminal and from the master."""
        if self.quitting:  # the second would wait for a lock that the first holds
            return
        self.quitting = True
        ending.set()
        super().handle_quit(sig, frame)

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


def heeded(app: Any) -> Any:
    """Surround an app: a connection that it refuses to read on is ended as it says; the library drops that header and says the contrary."""

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if status[0] == "4" and ("Connection", "close") in headers:
                start_response.__self__.force_close()
            return start_response(status, headers, exc_info)

        return app(environ, begin)

    return serve


def comes(conn: Any) -> bool:
    """Whether a request arrives on a connection within LINGER; one that was read ahead already is for the main thread."""
    if conn.parser is None or conn.is_http2 or conn.parser.unreader.buf.getvalue():
        return False
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(LINGER))


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
        **HEADERS,
        "Cache-Control": "no-store",
        "X-Request-ID": request_id,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode("ascii") + body
