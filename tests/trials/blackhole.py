"""A black hole in front of Postgres: from a moment on, what either side sends is swallowed without a reset or an acknowledgement."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from psycopg import conninfo

SO_ATTACH_FILTER = 26
DROP = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
"""The packet filter `ret 0`: the kernel drops what comes in before it could be acknowledged, as a dead network does."""


@dataclass
class Hole:
    """A relay of connections. `watch` sees what a client sends and says whether the hole opens before it is passed on."""

    address: str
    listener: socket.socket
    server: Callable[[], socket.socket]
    watch: Callable[[bytes], bool] = lambda _data: False
    pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    swallowed: set[int] = field(default_factory=set)
    dead: bool = False
    ended: bool = False

    def swallow(self, *, for_good: bool = False) -> None:
        """Let every connection there is now vanish, and with `for_good` later ones. The server's side stays open and hears nothing."""
        self.dead = for_good
        for client, _ in self.pairs:
            if client.fileno() >= 0:
                self.drop(client)

    def drop(self, client: socket.socket) -> None:
        """Let one connection vanish."""
        self.swallowed.add(client.fileno())
        program = struct.pack("HL", 1, ctypes.addressof(DROP))
        client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def listen(self) -> None:
        """Serve connections until the hole is closed."""
        while not self.ended:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            pair = (client, self.server())
            self.pairs.append(pair)
            if self.dead:
                self.drop(client)
            for ends, up in ((pair, True), (pair[::-1], False)):
                threading.Thread(target=self.relay, args=(*ends, up), daemon=True).start()

    def relay(self, giver: socket.socket, taker: socket.socket, up: bool) -> None:
        """Pass bytes on in one direction until one side ends."""
        client = giver if up else taker
        number = client.fileno()
        with suppress(OSError):
            while data := giver.recv(65536):
                if up and self.watch(data):
                    self.swallow()
                if number not in self.swallowed:
                    taker.sendall(data)
        if number not in self.swallowed:
            for end in (giver, taker):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections and listen no more."""
        self.ended = True
        self.listener.close()
        for end in [end for pair in self.pairs for end in pair]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def opened(dsn: str) -> Hole:
    """Put a relay in front of a database; close it after use."""
    where: dict[str, Any] = conninfo.conninfo_to_dict(dsn)

    def server() -> socket.socket:
        if not str(where["host"]).startswith("/"):
            return socket.create_connection((where["host"], int(where.get("port", 5432))))
        end = socket.socket(socket.AF_UNIX)
        end.connect(f"{where['host']}/.s.PGSQL.{where.get('port', 5432)}")
        return end

    listener = socket.create_server(("127.0.0.1", 0))
    secret = f":{where['password']}" if where.get("password") else ""
    address = (
        f"postgresql://{where['user']}{secret}@127.0.0.1:{listener.getsockname()[1]}/{where['dbname']}?sslmode=disable&gssencmode=disable"
    )
    hole = Hole(address, listener, server)
    threading.Thread(target=hole.listen, daemon=True).start()
    return hole
