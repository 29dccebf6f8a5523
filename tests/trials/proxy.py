"""Ambiguous commits: a proxy in front of Postgres cuts the connection before COMMIT k, or after it but before its reply."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import conninfo

from tests.trials.stage import Stage, Tally
from tests.trials.world import KINDS

COMMIT = b"COMMIT\0"
READY = b"Z\0\0\0\5"
OFFLINE = struct.pack("ii", 1, 0)
"""SO_LINGER so that close() sends a reset."""


@dataclass
class Fault:
    """Cut the connection at the COMMIT of this number; `told` is a pipe's end that hears of it."""

    number: int
    after: bool
    told: int
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def due(self, data: bytes) -> bool:
        """Count the commits that pass by; true at ours."""
        if COMMIT not in data:
            return False
        with self.lock:
            self.seen += 1
            return self.seen == self.number


def relay(client: socket.socket, server: socket.socket, fault: Fault) -> None:
    """Pass bytes on in both directions until one side ends, or the fault is due."""
    with client, server:
        while True:
            for side in select.select([client, server], [], [])[0]:
                try:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is client and fault.due(data):
                        cut(client, server, data, fault)
                        return
                    (server if side is client else client).sendall(data)
                except OSError:
                    return


def cut(client: socket.socket, server: socket.socket, commit: bytes, fault: Fault) -> None:
    """Reset the client's connection, and before that let the server execute the commit when the fault is to come after it."""
    reply = b""
    if fault.after:
        server.sendall(commit)
        while reply[-6:-1] != READY:
            reply += server.recv(65536)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, OFFLINE)
    client.close()
    os.write(fault.told, b"x")


def listen(listener: socket.socket, path: str, fault: Fault) -> None:
    """Serve connections until killed."""
    while True:
        client, _ = listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(path)
        threading.Thread(target=relay, args=(client, server, fault), daemon=True).start()


@contextmanager
def proxied(stage: Stage, dsn: str, number: int, *, after: bool) -> Iterator[tuple[str, int]]:
    """Put the proxy in front of a database for the length of a block; lend its address and the pipe that hears of the fault."""
    where: dict[str, Any] = conninfo.conninfo_to_dict(dsn)
    listener = socket.create_server(("127.0.0.1", 0))
    hearing, told = os.pipe()
    os.set_blocking(hearing, False)
    pid = stage.fork(lambda: listen(listener, f"{where['host']}/.s.PGSQL.{where['port']}", Fault(number, after, told)))
    port = listener.getsockname()[1]
    listener.close()
    os.close(told)
    try:
        yield f"postgresql://{where['user']}@127.0.0.1:{port}/{where['dbname']}?sslmode=disable&gssencmode=disable", hearing
    finally:
        stage.end(pid)
        os.close(hearing)


def heard(pipe: int) -> bool:
    """Whether the fault came."""
    try:
        return os.read(pipe, 1) == b"x"
    except BlockingIOError:
        return False


def commits(stage: Stage, *, after: bool) -> Tally:
    """Cut at every commit of a run, one trial each."""
    tally = Tally()
    for kind in KINDS if stage.full else ("csv", "rss"):
        number = 1
        while True:
            dsn = stage.world.copy("blank", "commits")
            with proxied(stage, dsn, number, after=after) as (address, pipe):
                run = stage.start(address, kind, lambda: None)
                code = stage.changed(run)
                landed = heard(pipe)
            right = code == 0 or (number == 1 and code == 4)  # the first commit opens the run: without it nothing can go on
            wrong = [] if right else [f"exit {code}: {stage.said(run).read_text()[-300:]}"]
            stage.judge(tally, dsn, kind, f"{'after' if after else 'before'} {kind} commit {number}", wrong)
            if not landed:
                break
            tally.landed, number = tally.landed + 1, number + 1
    return tally
