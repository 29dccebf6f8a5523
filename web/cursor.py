"""The opaque cursor of a page: where the page before ended, bound by a checksum to its filters and its order. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

LONGEST = 7_500
"""Characters: enough for any key that an index of Postgres holds, and short enough for an address."""


@dataclass(frozen=True, slots=True)
class Place:
    """The last record of a page: its sort key as Postgres wrote it (None: it has none) and its id."""

    key: str | None
    id: int


def write_cursor(place: Place, scope: str) -> str:
    """Write a cursor that is good under `scope` alone, which names filters and order."""
    told = json.dumps([place.key, place.id], separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(checksum(told, scope) + told).decode().rstrip("=")


def read_cursor(cursor: str, scope: str) -> Place:
    """Read a cursor. Raises ValueError when it was cut, edited, or made for other filters or another order."""
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if raw[:12] != checksum(raw[12:], scope) or cursor != write_cursor(place := take(raw[12:]), scope):
            raise ValueError
    except (binascii.Error, UnicodeError, ValueError, RecursionError):
        raise ValueError("is damaged, or belongs to other filters or another order: begin at the first page") from None
    return place


def take(told: bytes) -> Place:
    """Read what a cursor tells. Raises ValueError."""
    key, at = json.loads(told)
    if not (key is None or isinstance(key, str)) or type(at) is not int or not 0 <= at < 2**63:
        raise ValueError
    if key is not None and "\0" in key.encode().decode():
        raise ValueError
    return Place(key, at)


def checksum(told: bytes, scope: str) -> bytes:
    """Twelve bytes over the cursor and what it belongs to."""
    return hashlib.blake2b(scope.encode() + b"\0" + told, digest_size=12, key=b"kasparro cursor").digest()
