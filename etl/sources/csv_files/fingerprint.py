"""How far a file was read and what it held, so that the next run can tell grown from truncated, replaced and edited."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

VERSION = 2
HEAD = 64 * 1024
WINDOW = 4 * 1024
WINDOWS = 16
SEGMENTS = 64
SMALL = 8 * 1024 * 1024
RACY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Track:
    """Where reading stands. `segments` digest all bytes before `offset`, one for each run that read some; `windows` only samples."""

    offset: int = 0
    line: int = 0
    head: bytes = b""
    tail: bytes = b""
    windows: tuple[tuple[int, int, str], ...] = ()
    stride: int = 1
    blocks: int = 0
    segments: tuple[tuple[int, str], ...] = ()
    start: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


def advance(track: Track, body: bytes, lines: int) -> Track:
    """Move behind one more block."""
    windows, stride = track.windows, track.stride
    if track.blocks % stride == 0:
        piece = body[:WINDOW]
        windows = (*windows, (track.offset, len(piece), digest_of(piece)))
    if len(windows) > WINDOWS:
        windows, stride = windows[::2], stride * 2
    digest = track.digest.copy()
    digest.update(body)
    return replace(
        track,
        offset=track.offset + len(body),
        line=track.line + lines,
        head=track.head + body[: HEAD - len(track.head)] if len(track.head) < HEAD else track.head,
        tail=(track.tail + body[-WINDOW:])[-WINDOW:],
        windows=windows,
        stride=stride,
        blocks=track.blocks + 1,
        digest=digest,
    )


def digest_of(data: bytes) -> str:
    """Digest some bytes."""
    return hashlib.sha256(data).hexdigest()


def save(track: Track) -> dict[str, Any]:
    """Give the track as JSON."""
    segments = track.segments
    if track.offset > track.start:
        segments = (*segments, (track.offset - track.start, track.digest.hexdigest()))
    complete = len(segments) <= SEGMENTS and sum(size for size, _ in segments) == track.offset
    return {
        "version": VERSION,
        "offset": track.offset,
        "line": track.line,
        "head": [len(track.head), digest_of(track.head)],
        "tail": [len(track.tail), digest_of(track.tail)],
        "windows": [list(window) for window in track.windows],
        "stride": track.stride,
        "blocks": track.blocks,
        "segments": [list(segment) for segment in segments] if complete else [],
    }


def unchanged(stat: os.stat_result, state: Mapping[str, Any]) -> bool:
    """Tell from a file's stat alone that nothing happened to it since it was read to its end."""
    same = (stat.st_size, stat.st_mtime_ns, stat.st_ino) == (state["size"], state["mtime_ns"], state["inode"])
    return same and state["done"] and not state["racy"]


def is_racy(mtime_ns: int, now: float) -> bool:
    """Tell that a file changed so shortly before it was read that another change may hide behind the same time."""
    return abs(now - mtime_ns / 1e9) < RACY_SECONDS


def resume(file: BinaryIO, state: Mapping[str, Any], *, whole: bool) -> Track | str:
    """Go to where reading stopped, when all before is as it was; else say what happened: truncated or edited."""
    offset = state["offset"]
    head = read_at(file, 0, min(HEAD, offset))
    length, digest = state["head"]
    if digest_of(head[:length]) != digest:
        return "truncated" if length > len(head) else "edited"
    track = Track(offset, state["line"], head, stride=state["stride"], blocks=state["blocks"], start=offset)
    track = replace(track, windows=tuple((int(at), int(size), str(kept)) for at, size, kept in state["windows"]))
    if whole or (offset <= SMALL and state["segments"]):
        found = check_whole(file, state)
        if isinstance(found, str):
            return found
        tail, digest = found
        track = replace(track, digest=digest, start=0)
    else:
        kept = all(digest_of(read_at(file, at, size)) == digest for at, size, digest in track.windows)
        if not kept:
            return "edited"
        tail = read_at(file, offset - state["tail"][0], state["tail"][0])
        track = replace(track, segments=tuple((int(size), str(kept)) for size, kept in state["segments"]))
    if digest_of(tail[-state["tail"][0] :]) != state["tail"][1]:
        return "truncated" if len(tail) < state["tail"][0] else "edited"
    return replace(track, tail=tail)


def check_whole(file: BinaryIO, state: Mapping[str, Any]) -> tuple[bytes, Any] | str:
    """Read all that was read before and give its last bytes and its digest, or say what happened to it."""
    file.seek(0)
    tail, whole = b"", hashlib.sha256()
    if sum(size for size, _ in state["segments"]) != state["offset"]:
        return "edited"
    for size, kept in state["segments"]:
        digest = hashlib.sha256()
        while size:
            piece = file.read(min(size, 256 * 1024))
            if not piece:
                return "truncated"
            digest.update(piece)
            whole.update(piece)
            tail, size = (tail + piece)[-WINDOW:], size - len(piece)
        if digest.hexdigest() != kept:
            return "edited"
    return tail, whole


def read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    """Read some bytes of a place, fewer at the end."""
    file.seek(offset)
    return file.read(length)
