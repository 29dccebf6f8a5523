"""Clients that stop sending, or stop reading: no thread of the server is theirs for ever."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from web import sockets
from web.sockets import Bounded, TooSlow, bounded

THREADS = 16
"""Of both workers."""
Pair = tuple[Bounded, socket.socket]


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The server's end, which waits a tenth of a second, and the client's."""
    monkeypatch.setattr(sockets, "READING", 0.1)
    monkeypatch.setattr(sockets, "WRITING", 0.1)
    ours, theirs = socket.socketpair()
    with bounded(ours) as server, theirs:
        server.setblocking(True)
        yield server, theirs


def test_what_comes_in_time_is_read_and_what_does_not_is_given_up(pair: Pair) -> None:
    server, client = pair
    client.sendall(b"GET ")
    assert server.recv(100) == b"GET "
    with pytest.raises(TooSlow):
        server.recv(100)
    assert server.gettimeout() is None
    assert bounded(server) is server  # a further request has its own time
    client.close()
    assert server.recv(100) == b""


def test_a_request_that_drips_is_given_up_too(pair: Pair) -> None:
    server, client = pair
    client.sendall(b"a")
    assert server.recv(1) == b"a"
    server.until = 0.0
    client.sendall(b"b")
    assert server.recv(1) == b"b"  # what is there already is taken
    with pytest.raises(TooSlow):
        server.recv(1)


def test_who_does_not_read_is_taken_for_gone(pair: Pair) -> None:
    server, _ = pair
    with pytest.raises(BrokenPipeError):
        server.sendall(b"x" * 50_000_000)
    assert server.gettimeout() is None


def test_all_that_is_sent_arrives_in_order(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "WRITING", 60)
    server, client = pair
    sent, got = bytes(range(256)) * 10_000, bytearray()
    client.settimeout(60)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(server.sendall, sent)
        while len(got) < len(sent):
            got += client.recv(65536)
        writing.result()
    assert bytes(got) == sent


def test_who_reads_slowly_but_steadily_is_sent_all_of_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "WRITING", 1.0)
    server, client = pair
    sent, got = bytes(50 * 65536), 0
    client.settimeout(60)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(server.sendall, sent)
        while got < len(sent):
            got += len(client.recv(65536))
            time.sleep(0.04)  # two seconds for all, twice what a piece has
        writing.result()


def test_a_timeout_that_others_set_holds(pair: Pair) -> None:
    server, _ = pair
    server.settimeout(0.01)
    with pytest.raises(TimeoutError):
        server.recv(1)


def test_requests_that_never_end_do_not_hold_the_server_for_ever(serve: Callable[..., Any], dsn: str) -> None:
    served = serve(API_DATABASE_URL=dsn)
    where = urlsplit(served.url)
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((where.hostname, where.port), timeout=60)) for _ in range(THREADS + 4)]
        for each in held:
            each.sendall(b"GET /runs HTTP/1.1\r\nHost: x\r\n")
        answers = [each.recv(65536) for each in held]
        assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 408 Request Timeout"}
        assert served.get("/health/live").ok
    assert {line["reason"] for line in served.lines("request refused")} == {"TooSlow"}
