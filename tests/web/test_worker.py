"""gunicorn's worker as we have it: which thread answers a client's next request, and what it does not do a request."""

from __future__ import annotations

import http.client
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped]

from tests.web.conftest import wait_until
from web import shares
from web.server_log import Logger
from web.worker import UNREAD, Worker, comes

CLIENTS = 40
"""More than two workers of eight threads have threads."""
ENDED: Future[bool] = Future()
"""A request after which the connection is to end."""
ENDED.set_result(False)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker that has one connection, and whose main thread is the test."""
    made = Worker(1, os.getpid(), [], None, 30, Config(), Logger(Config()))
    made.place, made.poller, made.nr_conns = shares.enter([]), selectors.DefaultSelector(), 1
    yield made
    shares.leave(made.place)
    made.poller.close()
    made.tmp.close()


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


def test_clients_that_come_at_once_are_shared_out_among_the_workers(dsn: str, serve: Callable[..., Any]) -> None:
    served = serve(DATABASE_URL=dsn)
    wait_until(lambda: len(shared_out(served)) == 2 and min(shared_out(served)) > 0)  # until the second has begun, the first has all
    rounds = [shared_out(served) for _ in range(40)]
    assert {sum(parts) for parts in rounds} == {16}
    assert fmean(max(parts) for parts in rounds) <= 11  # without shares about 13: one worker has all of them every third time


def shared_out(served: Any) -> list[int]:
    """How many of sixteen connections, opened at once, each worker has."""
    address = urlsplit(served.url)
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection((address.hostname, address.port), timeout=20)) for _ in range(16)]
        for client in clients:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert all(client.recv(65536).startswith(b"HTTP/1.1 200") for client in clients)
        open_now = connections(address.port or 0)
        return [sum(inode in held for inode in open_now) for held in map(sockets, workers(served.process.pid))]


def workers(master: int) -> list[str]:
    """The processes that a master forked."""
    return Path(f"/proc/{master}/task/{master}/children").read_text().split()


def sockets(pid: str) -> set[str]:
    """The sockets of a process, as the kernel names them."""
    return {os.readlink(each).removeprefix("socket:[").removesuffix("]") for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}


def connections(port: int) -> set[str]:
    """The sockets of the connections that a port of this machine has."""
    tables = [Path("/proc/net/tcp").read_text().splitlines()[1:] for _ in range(2)]  # one may leave out or repeat what others just changed
    lines = [line.split() for table in tables for line in table]
    return {line[9] for line in lines if int(line[1].split(":")[1], 16) == port and line[3] == "01"}


def test_who_has_most_gives_way_and_who_is_gone_counts_no_more() -> None:
    one = shares.enter([])
    other = shares.enter([one])
    try:
        shares.tell(one, 7)
        shares.tell(other, 3)
        assert shares.fewest() == 3
        assert shares.enter([one]) == other
        assert shares.fewest() == 0
        shares.leave(other)
        assert shares.fewest() == 7
    finally:
        shares.leave(one)
        shares.leave(other)
    assert shares.enter(range(shares.MOST)) == shares.MOST - 1
    shares.leave(shares.MOST - 1)


def test_clients_that_do_not_close_what_is_ended_keep_nobody_waiting(dsn: str, serve: Callable[..., Any]) -> None:
    served = serve(DATABASE_URL=dsn)
    address = urlsplit(served.url)
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection((address.hostname, address.port), timeout=20)) for _ in range(80)]
        for client in clients:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert served.get("/health/live").ok  # two seconds a client if each was waited for: a minute a worker, and `get` waits for 20 s


def test_what_a_client_sends_on_an_ended_connection_is_read_until_it_closes(worker: Worker) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        conn = TConn(worker.cfg, ours, "", "")
        worker.finish_request(conn, ENDED)
        assert theirs.recv(1) == b""
        theirs.sendall(b"the rest of a body")
        worker.wait_for_and_dispatch_events(0)
        assert (worker.nr_conns, worker.leaving) == (1, {conn: 18})
    worker.wait_for_and_dispatch_events(0)
    assert (worker.nr_conns, worker.leaving, ours.fileno()) == (0, {}, -1)


def test_a_client_has_so_long_to_close_and_so_much_to_send(worker: Worker) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    late, much = (TConn(worker.cfg, ours, "", "") for ours, _ in pairs)
    worker.nr_conns = 2
    for conn in (late, much):
        worker.finish_request(conn, ENDED)
    pairs[1][1].sendall(bytes(UNREAD))
    while much in worker.leaving:
        worker.wait_for_and_dispatch_events(0)
    assert [*worker.leaving] == [late]
    late.timeout = time.monotonic()
    worker.wait_for_and_dispatch_events(60)  # and nothing more comes
    assert (worker.nr_conns, worker.leaving, late.sock.fileno()) == (0, {}, -1)
    for _, theirs in pairs:
        theirs.close()


def test_a_connection_that_was_cut_counts_once(worker: Worker) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    conn = TConn(worker.cfg, ours, "", "")
    ours.close()  # as the library does when an answer broke in the middle
    worker.finish_request(conn, ENDED)
    worker.wait_for_and_dispatch_events(0)
    assert (worker.nr_conns, shares.fewest()) == (0, 0)


@pytest.mark.parametrize("whom", ["the master", "all, as a terminal does"])
def test_a_ctrl_c_ends_the_streams_and_needs_no_force(whom: str, dsn: str, serve: Callable[..., Any]) -> None:
    served = serve(DATABASE_URL=dsn)
    address = urlsplit(served.url)
    with ExitStack() as opened:
        for _ in range(4):
            stream = opened.enter_context(socket.create_connection((address.hostname, address.port), timeout=20))
            stream.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            assert stream.recv(65536).startswith(b"HTTP/1.1 200")
        for pid in (*(workers(served.process.pid) if "all" in whom else ()), served.process.pid):
            os.kill(int(pid), signal.SIGINT)
        assert served.process.wait(timeout=30) == 0
    assert not [line for line in served.lines("server reported") if "SIGKILL" in line["message"]]


def test_who_is_refused_for_a_body_that_cannot_be_read_is_told_that_the_connection_ends(dsn: str, serve: Callable[..., Any]) -> None:
    address = urlsplit(serve(DATABASE_URL=dsn, API_KEY="correct-horse").url)
    begun = b"POST /etl/run HTTP/1.1\r\nHost: x\r\nX-API-Key: correct-horse\r\nContent-Type: application/json\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=20) as client:
        client.sendall(begun + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n")
        head = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 400 ")
    assert (head.count(b"connection:"), b"\r\nconnection: close" in head) == (1, True)
