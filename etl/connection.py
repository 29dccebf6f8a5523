"""Connections with two bounds that `requests` does not have: one deadline for all of an exchange, and public addresses only."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Inside(Exception):
    """A connection led into this network, where it must not."""


class Line:
    """The connection in use. `late`: it was cut because its time was up, so that nothing read from it is to be trusted."""

    def __init__(self) -> None:
        self.late = False
        self.twin: socket.socket | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut the connection when the block takes longer: a timeout of the socket starts anew with every byte that drips in."""
        self.late = False
        timer = threading.Timer(seconds, self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # race: a cut that has begun must not hit what the connection is used for next

    def hold(self, used: socket.socket) -> None:
        """Note the connection in use. Raises TimeoutError when its time is up already."""
        self.let_go()
        self.twin = used.dup()  # quirk: TLS takes the descriptor away from the socket it is given
        if self.late:
            raise TimeoutError("the time for this exchange is up")

    def cut(self) -> None:
        """End what is being read or written, from another thread."""
        self.late = True
        with suppress(OSError, AttributeError):
            self.twin.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def let_go(self) -> None:
        """Forget the connection."""
        twin, self.twin = self.twin, None
        if twin:
            twin.close()


class LineAdapter(HTTPAdapter):
    """Connections of one line; with `public`, only to addresses outside this network, whatever their names led to a moment before."""

    def __init__(self, line: Line, *, public: bool) -> None:
        self.pools = {
            "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": connection_class(HTTPConnection, line, public)}),
            "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": connection_class(HTTPSConnection, line, public)}),
        }
        super().__init__()

    def init_poolmanager(self, *args: Any, **told: Any) -> None:
        """Make the manager of direct connections."""
        super().init_poolmanager(*args, **told)
        self.poolmanager.pool_classes_by_scheme = self.pools

    def proxy_manager_for(self, proxy: Any, **told: Any) -> Any:
        """Make the manager of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **told)
        manager.pool_classes_by_scheme = self.pools
        return manager


def connection_class(kind: type[HTTPConnection], line: Line, public: bool) -> type[HTTPConnection]:
    """Make a kind of connection that tells its line of every use, and refuses an address inside when it has to."""

    class Held(kind):  # type: ignore[valid-type, misc]
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            try:
                if public and not self.proxy and is_private(made.getpeername()[0]):  # a proxy resolves by itself
                    raise Inside
                line.hold(made)
            except BaseException:
                made.close()
                raise
            return made

        def request(self, *args: Any, **told: Any) -> None:
            if self.sock is not None:
                line.hold(self.sock)
            super().request(*args, **told)

    return Held


def is_private(text: str) -> bool:
    """Whether a numeric address is of this machine, its network, or no single host's at all."""
    address = ipaddress.ip_address(text.partition("%")[0])
    plain = embedded(address) or address
    return not plain.is_global or plain.is_multicast


def embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, 6to4 or NAT64 (RFC 6052)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in ipaddress.ip_network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
