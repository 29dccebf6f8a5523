"""A response's body: read and inflated within bounds, so that no upstream can fill the memory or hold the run for ever."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

from urllib3.exceptions import HTTPError

from etl.addresses import bytes_shown
from etl.errors import FetchError, Transient
from shared.addresses import shown

CHUNK = 65536
EXCERPT = 10_000


def body_parts(read: Callable[[int], bytes], encoding: str, url: str, limit: int, deadline: float) -> Iterator[bytes]:
    """Yield a body from the wire, inflated, at most `limit` bytes of it and until `deadline` on the monotonic clock.

    Raises zlib.error or EOFError when gzip is broken or cut short, FetchError and Transient when a bound is passed.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise FetchError(f"{shown(url)} answered in an encoding we did not ask for: check the address", permanent=True)
    too_long = FetchError(f"{shown(url)} answered with more than {bytes_shown(limit)}: check the address", permanent=True)

    def wire() -> Iterator[bytes]:
        received = 0
        while chunk := read(CHUNK):
            received += len(chunk)
            if received > limit:
                raise too_long
            if time.monotonic() > deadline:
                raise Transient(f"{shown(url)} was not read in time")
            yield chunk

    size = 0
    for part in inflate(wire()) if "gzip" in encoding else wire():
        size += len(part)
        if size > limit:
            raise too_long
        yield part


def inflate(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate every member of a gzip stream, a bounded part at a time. Raises zlib.error, and EOFError at an early end."""
    inflater, begun = zlib.decompressobj(wbits=31), False
    for chunk in chunks:
        begun, left = True, chunk
        while left:
            if inflater.eof:
                left = left.lstrip(b"\0")  # quirk: gzip files may be padded
                if not left:
                    break
                inflater = zlib.decompressobj(wbits=31)
            if part := inflater.decompress(left, CHUNK):
                yield part
            left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if begun and not inflater.eof:
        raise EOFError


def read_excerpt(parts: Iterator[bytes]) -> bytes:
    """Read the beginning of an error's body as far as that is possible: the status says enough without it."""
    found = b""
    with suppress(OSError, HTTPError, EOFError, zlib.error, Transient, FetchError):
        while len(found) < EXCERPT:
            found += next(parts, b"") or b"\n" * EXCERPT
    return found[:EXCERPT]
