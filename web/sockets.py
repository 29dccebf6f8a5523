"""A client's socket on which no wait is without an end: a thread is not held for ever by who stops sending, or stops reading."""

from __future__ import annotations

import errno
import math
import socket
import time
from typing import Any

from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

READING = 10.0
"""Seconds in which a whole request has to come, its body included."""
WRITING, PIECE = 30.0, 65536
"""Seconds in which a client has to take one piece of an answer, and the bytes of a piece."""


class TooSlow(ParseException):  # type: ignore[misc]
    """The request did not come in time."""


class Bounded(socket.socket):
    """A blocking socket whose reads end at `until` (monotonic) and whose writes end after WRITING a piece, unless others set a timeout.

    What need not wait costs nothing more than it does on any socket.
    """

    until: float = math.inf

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive. Raises TooSlow."""
        if self.gettimeout() is not None:
            return super().recv(size, flags)
        try:
            return super().recv(size, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            left = self.until - time.monotonic()
        if left <= 0:
            raise TooSlow
        self.settimeout(left)
        try:
            return super().recv(size, flags)
        except TimeoutError:
            raise TooSlow from None
        finally:
            self.settimeout(None)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all. Raises BrokenPipeError, as if the client were gone."""
        if self.gettimeout() is not None:
            return super().sendall(data, flags)
        try:
            sent = super().send(data, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return None
        self.settimeout(WRITING)
        rest = memoryview(data)[sent:]
        try:
            for start in range(0, len(rest), PIECE):
                super().sendall(rest[start : start + PIECE], flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client does not read") from None
        finally:
            self.settimeout(None)


def bounded(client: socket.socket) -> Bounded:
    """Take a socket over, for a request that begins now."""
    found = client if isinstance(client, Bounded) else Bounded(fileno=client.detach())
    found.until = time.monotonic() + READING
    return found
