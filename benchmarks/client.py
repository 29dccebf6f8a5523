"""A load generator: keep-alive connections over epoll, one request under way on each, the time of each answer kept."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

Address = tuple[str, int]
LARGEST = 1 << 18
PATIENCE = 30
"""Seconds without an answer after which a server is given up."""
WARM_UP = 0.2
"""Share of the measured time that is spent before it: threads connect and statements are prepared."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came back in a measured time: latencies in seconds, sorted; `cpu` is the generator's own share of a core.

    `failures` are answers of another status, the first of them in `failure`; they count for nothing else.
    """

    latencies: list[float]
    seconds: float
    cpu: float
    failures: int = 0
    failure: str = ""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share of the answers came."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)] * 1000


@dataclass(slots=True)
class Client:
    """One connection: when its request was sent, and what of the answer is still to come (-1: its head)."""

    sock: socket.socket
    sent: float = 0.0
    missing: int = -1
    right: bool = True
    head: bytearray = field(default_factory=bytearray)
    failures: list[str] = field(default_factory=list)


def request(path: str, headers: dict[str, str] | None = None) -> bytes:
    """A GET as bytes."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()


def load(address: Address, requests: list[bytes], clients: int, seconds: float, status: int = 200) -> Load:
    """Ask in turn, each client as soon as it has its answer. Raises RuntimeError when a server stops answering."""
    queue, poll = cycle(requests), select.epoll()
    opened = {client.sock.fileno(): client for client in (Client(connect(address)) for _ in range(clients))}
    try:
        for number, client in opened.items():
            poll.register(number, select.EPOLLIN)
            ask(client, next(queue))
        turn(poll, opened, queue, seconds * WARM_UP, status)
        cpu, began = time.process_time(), time.perf_counter()
        latencies = turn(poll, opened, queue, seconds, status)
        took = time.perf_counter() - began
        failures = [each for client in opened.values() for each in client.failures]
        return Load(sorted(latencies), took, (time.process_time() - cpu) / took, len(failures), "".join(failures[:1]))
    finally:
        poll.close()
        for client in opened.values():
            client.sock.close()


def turn(poll: select.epoll, opened: dict[int, Client], queue: Iterator[bytes], seconds: float, status: int) -> list[float]:
    """Keep every client asking for so long, and at least until one answer came; return the latencies."""
    until, found = time.perf_counter() + seconds, []
    while True:
        for number, _ in poll.poll(PATIENCE) or failed("no answer"):
            client = opened[number]
            if take(client, status):
                if client.right:
                    found.append(time.perf_counter() - client.sent)
                ask(client, next(queue))
        late = time.perf_counter() - until
        if found and late >= 0:
            return found
        if late > PATIENCE:
            failed("no right answer")


def take(client: Client, status: int) -> bool:
    """Read what arrived; whether the answer is complete. Raises RuntimeError."""
    data = client.sock.recv(LARGEST)
    if not data:
        failed("the server closed a connection")
    if client.missing < 0:
        client.head += data
        end = client.head.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(client.head[:end]).lower()
        client.right = int(head[9:12]) == status
        if not client.right:
            client.failures.append(bytes(client.head)[:600].decode(errors="replace"))
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 and status != 304 else 0
        client.missing = length + end + 4 - len(client.head)
    else:
        client.missing -= len(data)
    return client.missing == 0


def ask(client: Client, told: bytes) -> None:
    """Send a request."""
    client.missing = -1
    client.head.clear()
    client.sent = time.perf_counter()
    client.sock.sendall(told)


def connect(address: Address) -> socket.socket:
    """Open a connection."""
    sock = socket.create_connection(address, timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def failed(reason: str) -> list[tuple[int, int]]:
    """Give up."""
    raise RuntimeError(reason)
