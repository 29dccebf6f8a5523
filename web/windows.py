"""Windows: how many requests each client made in its present period, in memory that all workers of a machine share. Knows no HTTP."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
import threading
import time
from hashlib import blake2b
from typing import NamedTuple

SLOT = struct.Struct("<16sdq")
"""A client's digest, when its window ends by the machine's monotonic clock, how many requests it made."""
WAYS, ROWS = 8, 8192
"""A client has a place in one row: 65,536 clients in 2 MB. In a full row, the window that ends first gives way."""
ROW = WAYS * SLOT.size


class Taken(NamedTuple):
    """What became of one request: whether it may pass, how many more may, and in how many seconds the window ends."""

    allowed: bool
    remaining: int
    seconds: float


class Windows:
    """The table; made before the workers are forked, it is theirs together."""

    def __init__(self) -> None:
        self.file, path = tempfile.mkstemp(prefix="kasparro-windows-")
        os.unlink(path)
        os.ftruncate(self.file, ROWS * ROW)
        self.memory = mmap.mmap(self.file, ROWS * ROW)
        self.lock = threading.Lock()


def take(windows: Windows, client: str, calls: int, seconds: float, *, count: bool = True) -> Taken:
    """Count one request of a client, at most `calls` in a window of `seconds` that begins with its first. Without `count` only look."""
    key = blake2b(f"{calls} {seconds} {client}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
    start = int.from_bytes(key[:4], "little") % ROWS * ROW
    with windows.lock:  # threads; the file's lock is for processes, and the kernel ends it with its holder
        fcntl.lockf(windows.file, fcntl.LOCK_EX, ROW, start)
        try:
            now = time.monotonic()
            at, ends, made = find(windows.memory, start, key, now)
            if ends <= now:
                ends, made = now + seconds, 0
            allowed = made < calls
            if count:
                SLOT.pack_into(windows.memory, at, key, ends, made + allowed)
        finally:
            fcntl.lockf(windows.file, fcntl.LOCK_UN, ROW, start)
    return Taken(allowed, calls - made - allowed, ends - now)


def find(memory: mmap.mmap, start: int, key: bytes, now: float) -> tuple[int, float, int]:
    """The place of a client in its row with its window; for a new one the place whose window ended or ends first."""
    places = [(start + way * SLOT.size, *SLOT.unpack_from(memory, start + way * SLOT.size)) for way in range(WAYS)]
    for at, owner, ends, made in places:
        if owner == key:
            return at, ends, made
    first = min(places, key=lambda place: place[2])
    return first[0], now, 0
