"""Files into payloads: reads only what is new, one block of lines at a time, and remembers where it stands in every file."""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from etl.errors import SourceError, Unrecognised, one_of_many
from etl.source import Alias, Cursor, Fetch, Payload
from etl.sources.csv_files.blocks import Block, cut_blocks
from etl.sources.csv_files.dialect import SAMPLE, Dialect, Names, sniff
from etl.sources.csv_files.files import find_files, look_at, moment_of, open_file, size_of
from etl.sources.csv_files.fingerprint import VERSION, Track, advance, is_racy, resume, save, unchanged
from etl.sources.csv_files.text import one_line, show_path
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Piece:
    """A block with what is known of its file: the state to remember once it is loaded, what parse needs, bytes read so far, notes."""

    block: Block
    first_line: int
    state: dict[str, Any]
    meta: dict[str, Any]
    read: int
    notes: tuple[str, ...]


def extract(settings: Settings, fetch: Fetch, cursor: Cursor, aliases: Sequence[Alias] = ()) -> Iterator[Payload]:
    """Yield what is new in the files of `CSV_PATHS`. Raises SourceError at the very end, naming the files that were refused."""
    paths, failures = find_files(settings.csv_paths)
    count = len(paths) + len(failures)
    known: Mapping[str, Any] = cursor.get("files") or {}
    files = {path: state for path, state in known.items() if os.path.lexists(path)}
    sizes = {path: size_of(path) for path in paths}
    total, before = sum(sizes.values()), 0
    for path in paths:
        try:
            head = True
            for piece in read_new(path, files.get(path), names_of(path, aliases)):
                files = {**files, path: piece.state}
                lines = f"#L{piece.first_line}-{piece.first_line + piece.block.lines - 1}"
                done = before + min(piece.read, sizes[path])
                yield Payload(
                    piece.block.body,
                    path + lines,
                    {"files": files},
                    datetime.now(UTC),
                    piece.meta,
                    done,
                    total,
                    notes=piece.notes,
                    head=head,
                )
                head = False
        except SourceError as error:
            failures.append((path, error))
        before += sizes[path]
    failures = [(show_path(name), told(name, error)) for name, error in failures]
    if failures:
        raise one_of_many("files", count, failures)


def told(path: str, error: SourceError) -> SourceError:
    """A file's error on one line; one about its columns keeps the rows, and says which files are of its kind."""
    if isinstance(error, Unrecognised):
        return Unrecognised(one_line(str(error)), stream_of(path), error.records)
    return SourceError(one_line(str(error)), permanent=error.permanent)


def stream_of(path: str) -> str:
    """Name the files that are of one kind: those whose paths differ in digits only."""
    return re.sub(r"\d+", "#", show_path(path))


def names_of(path: str, aliases: Sequence[Alias]) -> Names:
    """The header cells that were given a field in files like this one."""
    return {alias.upstream: alias.role for alias in aliases if alias.role and alias.stream == stream_of(path)}


def read_new(path: str, state: Mapping[str, Any] | None, names: Names) -> Iterator[Piece]:
    """Read what is new in one file. Raises SourceError when it cannot be read or is not what we can load."""
    found = look_at(path)
    state = state if state and state.get("version") == VERSION else None
    if state and unchanged(found, state):
        return
    with open_file(path) as (raw, inflated):
        # Whatever changes from here on must be noticed by the next run.
        begun = os.fstat(raw.fileno())
        racy = is_racy(begun.st_mtime_ns, time.time())
        try:
            track, note = find_start(raw, inflated, state)
            dialect = find_dialect(inflated or raw, track, state, names)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"cannot be read ({error}): replace the file") from error
        stamp = {"mtime_ns": begun.st_mtime_ns, "inode": begun.st_ino, "size": begun.st_size, "racy": racy}
        yield from read_on(path, raw, inflated, track, dialect, stamp, note)


def find_start(raw: BinaryIO, inflated: BinaryIO | None, state: Mapping[str, Any] | None) -> tuple[Track, str]:
    """Say where to read from, and what happened to the file when that is its start although it was read before."""
    if not state or not state["offset"]:
        return Track(), ""
    found = os.fstat(raw.fileno())
    if inflated is None and found.st_size < state["offset"]:
        return Track(), "truncated"
    # Without growth an edit is all that can have happened, and samples do not find every edit.
    moved = (found.st_mtime_ns, found.st_ino) != (state["mtime_ns"], state["inode"])
    whole = inflated is not None or (found.st_size == state["size"] and (moved or state["racy"]))
    try:
        track = resume(inflated or raw, state, whole=whole)
    except (EOFError, zlib.error):
        track = "truncated"
    if isinstance(track, str):
        return Track(), "replaced" if track == "edited" and found.st_ino != state["inode"] else track
    return track, ""


def find_dialect(file: BinaryIO, track: Track, state: Mapping[str, Any] | None, names: Names) -> Dialect:
    """Take over what was found before, unless there was too little to judge by, and leave the file where reading begins."""
    if state and track.offset >= SAMPLE:
        return Dialect(**state["dialect"])
    file.seek(0)
    sample, ended = b"", False
    while len(sample) < SAMPLE and not ended:
        try:
            piece = file.read1(SAMPLE - len(sample))  # type: ignore[attr-defined]
        except (EOFError, zlib.error, OSError):
            if not sample:
                raise
            break
        sample, ended = sample + piece, not piece
    dialect = sniff(sample, ended=ended, names=names)
    file.seek(track.offset)
    return dialect


def read_on(
    path: str, raw: BinaryIO, inflated: BinaryIO | None, track: Track, dialect: Dialect, begun: Mapping[str, Any], note: str
) -> Iterator[Piece]:
    """Read the blocks from where the file stands to its end; `begun` is what its stat was when it was opened."""
    read = (inflated or raw).read1  # type: ignore[attr-defined]
    encoding, newline = dialect.encoding, dialect.newline.encode()
    kept = asdict(dialect)
    mtime = moment_of(begun["mtime_ns"] / 1e9).isoformat()
    head = max(dialect.head - track.offset, 0)
    for block in cut_blocks(read, encoding, newline, head):
        first, skip = track.line + 1, 0 if track.offset else dialect.skip
        meta = {"path": path, **kept, "skip": skip, "width": len(dialect.header), "mtime": mtime}
        notes = () if track.offset else remarks(dialect, note)
        track = advance(track, block.body, block.lines) if block.settled else track
        stamp = {**begun, "size": raw.tell() if block.last else begun["size"], "done": block.last}
        yield Piece(block, first, {**save(track), **stamp, "dialect": kept}, meta, raw.tell(), notes)


def remarks(dialect: Dialect, note: str) -> tuple[str, ...]:
    """Say what a person should know of how a file is read from its start."""
    again = (f"the file was {note} since the last run: it is read again from its start",) if note else ()
    return again + tuple(f"the column for {name} is left out: {reason}" for name, reason in dialect.ignored.items())
