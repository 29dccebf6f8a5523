"""An upstream on a raw socket that does whatever a fault wants of it, and remembers who asked for what and when."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ask:
    """One request: which one it is (from 1), its path and query, its head, and the socket to answer on."""

    number: int
    path: str
    query: str
    head: str
    peer: socket.socket
    time: float = field(default_factory=time.monotonic)

    @property
    def page(self) -> int:
        """The page asked for."""
        return next((int(part[5:]) for part in self.query.split("&") if part.startswith("page=")), 1)

    @property
    def size(self) -> int:
        """How many coins a page is to have."""
        return next((int(part[9:]) for part in self.query.split("&") if part.startswith("per_page=")), 100)


Answer = Callable[[Ask], None]


def say(ask: Ask, body: bytes | str = b"", status: str = "200 OK", kind: str = "application/json", **headers: str) -> None:
    """Send a whole answer."""
    body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    ask.peer.sendall(head(status, **{"Content_Type": kind, "Content_Length": str(len(body)), **headers}) + body)


def head(status: str = "200 OK", **headers: str) -> bytes:
    """The head of an answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode()


def reset(ask: Ask, sent: bytes) -> None:
    """Send some bytes and reset the connection."""
    ask.peer.sendall(sent)
    time.sleep(0.05)
    ask.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ask.peer.close()


def pour(ask: Ask, first: bytes, piece: bytes, delay: float = 0.0) -> None:
    """Send a piece for ever."""
    ask.peer.sendall(first)
    while True:
        ask.peer.sendall(piece)
        time.sleep(delay)


def tickers(count: int, **changed: Any) -> list[dict[str, Any]]:
    """So many tickers of CoinPaprika's shape."""
    usd = {"price": 1.5, "volume_24h": 1, "market_cap": 1}
    row = {"symbol": "S", "rank": 1, "last_updated": "2026-01-02T00:00:00Z", "quotes": {"USD": usd}} | changed
    return [{"id": f"c{n}", "name": f"Coin {n}", **row} for n in range(count)]


def markets(names: list[str]) -> bytes:
    """A page of CoinGecko's shape."""
    row = {"symbol": "s", "name": "n", "current_price": 1, "last_updated": "2026-01-02T00:00:00Z"}
    return json.dumps([{"id": name, **row} for name in names]).encode()


def feed(items: str, before: str = "") -> bytes:
    """An RSS feed around some items."""
    return f'{before}<rss version="2.0"><channel><title>t</title>{items}</channel></rss>'.encode()


ARTICLE = "<item><title>T</title><guid>g1</guid><link>https://n.example/1</link></item>"


class Upstream:
    """Serves one answer after the other, each connection in a thread of its own; every connection is closed after its answer."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.answer, self.context, self.asked = answer, context, list[Ask]()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer: socket.socket) -> None:
        peer.settimeout(60)
        with suppress(OSError), peer:
            if self.context:
                peer = self.context.wrap_socket(peer, server_side=True)
            heard = b""
            while b"\r\n\r\n" not in heard:
                if not (part := peer.recv(65536)):
                    return
                heard += part
            target = heard.split(b" ")[1].decode()
            path, _, query = target.partition("?")
            ask = Ask(len(self.asked) + 1, path, query, heard.decode("latin-1"), peer)
            self.asked.append(ask)
            self.answer(ask)

    def close(self) -> None:
        self.listener.close()
