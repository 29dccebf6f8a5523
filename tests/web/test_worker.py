"""gunicorn's worker as we have it: which thread answers a client's next request, and what it does not do a request."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]

from web.server_log import Logger
from web.worker import comes

CLIENTS = 40
"""More than two workers of eight threads have threads."""


def test_a_thread_waits_a_moment_for_the_next_request_of_its_client() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        unreader = SocketUnreader(ours)
        conn = SimpleNamespace(sock=ours, is_http2=False, parser=SimpleNamespace(unreader=unreader))
        assert not comes(conn)
        theirs.sendall(b"GET / HTTP/1.1")
        assert comes(conn)
        unreader.unread(b"GET /more HTTP/1.1")  # read ahead: nothing will arrive
        assert not comes(conn)


def test_a_client_that_went_away_is_not_waited_for_but_noticed(dsn: str, serve: Callable[..., Any]) -> None:
    address = urlsplit(serve(DATABASE_URL=dsn).url)
    for _ in range(50):
        conn = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        conn.request("GET", "/health/live")
        assert conn.getresponse().status == 200
        conn.close()


def test_more_clients_than_threads_are_all_answered(dsn: str, serve: Callable[..., Any]) -> None:
    address = urlsplit(serve(DATABASE_URL=dsn).url)

    def ask(_: int) -> list[int]:
        conn = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        found = []
        for _ in range(20):
            conn.request("GET", "/health/live")
            answer = conn.getresponse()
            answer.read()
            found.append(answer.status)
        conn.close()
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert list(pool.map(ask, range(CLIENTS))) == [[200] * 20] * CLIENTS


def test_gunicorns_own_line_of_a_request_is_not_even_put_together() -> None:
    config = Config()
    config.set("logconfig_dict", {"version": 1})
    Logger(config).access(None, None, None, None)  # the library's would look into what is no response
