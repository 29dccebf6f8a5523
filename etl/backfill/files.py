"""Files as backfills: read once to know what they hold and where to cut them, then block by block, in any order, by any process."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import BinaryIO, NamedTuple

from etl.errors import SourceError
from etl.source import Payload, Source
from etl.sources.csv_files import SOURCE
from etl.sources.csv_files.blocks import QUOTE, cut_blocks
from etl.sources.csv_files.dialect import SAMPLE, Dialect, sniff
from etl.sources.csv_files.encoding import to_units
from etl.sources.csv_files.files import look_at, moment_of, open_file
from etl.sources.csv_files.history import (
    KEYED,
    KEYED_RECORD,
    POINT,
    POINT_RECORD,
    identify_keyed,
    keyed_point,
    parser,
    point_of,
    sniff_history,
)
from etl.sources.csv_files.reading import remarks
from shared.excerpts import unit_size

PIECE = 1024 * 1024
CHANGED = "was changed since it was planned: run the same command again, as a new backfill"


class Part(NamedTuple):
    """A block of whole lines: its bytes in the inflated file, its first line, and its digest."""

    start: int
    end: int
    line: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found of a file. `asset` names what all rows are of; `points`: its rows are history, not the state of assets."""

    path: str
    source: str
    asset: str | None
    points: bool
    dialect: Dialect
    digest: str
    mtime: datetime
    parts: list[Part]

    @property
    def in_order(self) -> bool:
        """Whether its blocks are loaded one after the other: without dates the last row of an asset counts."""
        return not self.points and "updated_at" not in self.dialect.columns


@dataclass(slots=True)
class Stream:
    """A file that is being read; one that is packed can only be read forward."""

    path: str
    stack: ExitStack = field(default_factory=ExitStack)
    file: BinaryIO | None = None
    packed: bool = False
    at: int = 0


def survey(path: str, source: str, asset: str | None, most: int) -> Survey:
    """Read a file through: its dialect, its digest, its blocks of at most `most` lines. Raises SourceError when it cannot be loaded."""
    found = look_at(path)
    with open_file(path) as (raw, inflated):
        stream = inflated or raw
        try:
            sample, ended = read_sample(stream)
            points = asset is not None or source != SOURCE.name
            dialect = sniff_history(sample, ended=ended, asset=asset) if points else sniff(sample, ended=ended)
            stream.seek(0)
            whole, parts = hashlib.sha256(), []
            for part, body in cut(stream, dialect, most):
                whole.update(body)
                parts.append(part)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"cannot be read ({error}): replace the file") from error
    mtime = moment_of(found.st_mtime)
    return Survey(path, source, asset, points, dialect, whole.hexdigest(), mtime, parts)


def shut(stream: Stream) -> None:
    """Close the file; it is opened again where it is read again."""
    stream.stack.close()
    stream.file = None


def read_sample(stream: BinaryIO) -> tuple[bytes, bool]:
    """The beginning of a file, and whether it is all of it."""
    sample = b""
    while len(sample) < SAMPLE:
        piece = stream.read(SAMPLE - len(sample))
        if not piece:
            return sample, True
        sample += piece
    return sample, False


def cut(stream: BinaryIO, dialect: Dialect, most: int) -> Iterator[tuple[Part, bytes]]:
    """Cut a file into blocks of at most `most` lines after the header, none across a quoted line end."""
    at, line, newline = 0, 1, dialect.newline.encode()
    for block in cut_blocks(stream.read1, dialect.encoding, newline, dialect.head):  # type: ignore[attr-defined]
        begun = 0
        for end, lines in split(block.body, dialect, most, head=dialect.head if at == 0 else 0):
            body = block.body[begun:end]
            yield Part(at, at + len(body), line, hashlib.sha256(body).digest()), body
            at, line, begun = at + len(body), line + lines, end


def split(body: bytes, dialect: Dialect, most: int, *, head: int) -> Iterator[tuple[int, int]]:
    """Say where a block is cut into parts of at most `most` lines behind its first `head` bytes, and how many lines each part has."""
    size = unit_size(dialect.encoding)
    units = to_units(body, dialect.encoding)
    ends = [found.end() for found in re.finditer(re.escape(dialect.newline.encode()), units)]
    begun, place = 0, (dialect.skip if head else 0) + most - 1
    start = head // size
    while place < len(ends) - 1:
        if units.count(QUOTE, start, ends[place]) & 1:
            place += 1
            continue
        yield ends[place] * size, place + 1 - begun
        start, begun, place = ends[place], place + 1, place + most
    yield len(body), max(len(ends) - begun, 1)


def payload_of(survey: Survey, part: Part, body: bytes, told_at: datetime) -> Payload:
    """A block as a payload, with all that parsing it needs; it is told from others with the same bytes by its line."""
    dialect, first = survey.dialect, part.start == 0
    lines = f"#L{part.line}"
    history = {"history": {"asset": survey.asset, "line": part.line}} if survey.points else {"line": part.line}
    skip = dialect.skip if first else 0
    meta = {"path": survey.path, **asdict(dialect), "skip": skip, "width": len(dialect.header), "mtime": survey.mtime.isoformat()}
    return Payload(body, survey.path + lines, {}, told_at, {**meta, **history}, notes=remarks(dialect, "") if first else ())


def view(survey: Survey) -> Source:
    """The source as validation and quarantine see it when they look at the rows of a file."""
    return point_view(survey.source, survey.asset) if survey.points else SOURCE


def point_view(name: str, asset: str | None) -> Source:
    """The same of a price history: all rows of one asset, or each of the one that it names."""
    if asset is not None:
        told = replace(SOURCE, name=name, record=POINT_RECORD, parse=parser(POINT))
        return replace(told, normalize=point_of(asset), identify=lambda _value: asset)
    told = replace(SOURCE, name=name, record=KEYED_RECORD, parse=parser(KEYED))
    return replace(told, normalize=keyed_point, identify=identify_keyed)


def read_part(stream: Stream, start: int, end: int, sha256: bytes) -> bytes:
    """Read the bytes of a block. Raises SourceError when they are not those that were planned."""
    try:
        if stream.file is None or (stream.packed and start < stream.at):
            stream.stack.close()
            raw, inflated = stream.stack.enter_context(open_file(stream.path))
            stream.file, stream.packed, stream.at = inflated or raw, inflated is not None, 0
        if stream.packed:
            while stream.at < start:
                stream.at += len(skipped := stream.file.read(min(PIECE, start - stream.at)))
                if not skipped:
                    raise SourceError(CHANGED, permanent=True)
        else:
            stream.file.seek(start)
        body = stream.file.read(end - start)
        stream.at = start + len(body)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"cannot be read ({error}): replace the file") from error
    if hashlib.sha256(body).digest() != sha256:
        raise SourceError(CHANGED, permanent=True)
    return body
