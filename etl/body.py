"""A response's body: read and inflated within bounds, so that no upstream can fill the memory or hold the run for ever."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from urllib3.exceptions import HTTPError

from etl.addresses import bytes_shown
from etl.errors import FetchError, Transient
from shared.addresses import shown

CHUNK = 65536
EXCERPT = 10_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a body must keep to: bytes before and after inflating, the end of its time on the monotonic clock, and after `grace`
    seconds the bytes a second that must have come in on average.
    """

    size: int
    deadline: float
    grace: float = 20.0
    slowest: int = 1024


def body_parts(read: Callable[[int], bytes], encoding: str, url: str, bounds: Bounds) -> Iterator[bytes]:
    """Yield a body from the wire, inflated, within its bounds.

    Raises zlib.error or EOFError when gzip is broken or cut short, FetchError and Transient when a bound is passed.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise FetchError(f"{shown(url)} answered in an encoding we did not ask for: check the address", permanent=True)
    too_long = FetchError(f"{shown(url)} answered with more than {bytes_shown(bounds.size)}: check the address", permanent=True)

    def wire() -> Iterator[bytes]:
        received, begun = 0, time.monotonic()
        while chunk := read(CHUNK):
            received += len(chunk)
            if received > bounds.size:
                raise too_long
            now = time.monotonic()
            if now > bounds.deadline:
                raise Transient(f"{shown(url)} was not read in time")
            if now - begun > bounds.grace and received < bounds.slowest * (now - begun):
                raise Transient(f"{shown(url)} sends less than {bytes_shown(bounds.slowest)} a second")
            yield chunk

    size = 0
    for part in inflate(wire()) if "gzip" in encoding else wire():
        size += len(part)
        if size > bounds.size:
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
