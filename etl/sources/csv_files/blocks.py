"""Cutting a stream of bytes into blocks of whole lines, in flat memory. Knows nothing of files or cursors."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from etl.errors import SourceError
from etl.sources.csv_files.encoding import to_units
from shared.excerpts import unit_size

BLOCK = 2 * 1024 * 1024
"""Bytes of a payload: several batches, so that one can be validated while the one before is written."""
PATIENCE = 2 * BLOCK
LONGEST_LINE = 4 * 1024 * 1024
QUOTE = 0x22


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole lines. `settled`: they will not change when the file grows. `last`: nothing follows for now."""

    body: bytes
    lines: int
    settled: bool
    last: bool


def cut_blocks(read: Callable[[int], bytes], encoding: str, newline: bytes, head: int) -> Iterator[Block]:
    """Cut what `read` gives; never within the first `head` bytes. Raises SourceError after the last complete line of a damaged file."""
    buffer, pending, failure = b"", b"", None
    while True:
        try:
            piece = read(BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            failure = SourceError(f"cannot be read on after what was complete ({error}): replace the file")
            failure.__cause__ = error
            break
        if not piece:
            break
        buffer += piece
        while len(buffer) >= BLOCK + head and (length := find_cut(buffer, encoding, newline, head)):
            if pending:
                yield make_block(pending, encoding, newline)
            pending, buffer, head = buffer[:length], buffer[length:], 0
    length = find_end(buffer, encoding, newline, head)
    rest = b"" if failure else buffer[length:]
    bodies = [body for body in (pending, buffer[:length]) if body]
    for body in bodies:
        yield make_block(body, encoding, newline, last=not failure and not rest and body is bodies[-1])
    if rest:
        yield make_block(rest, encoding, newline, settled=False, last=True)
    if failure:
        raise failure


def make_block(body: bytes, encoding: str, newline: bytes, *, settled: bool = True, last: bool = False) -> Block:
    """Count the lines of a body."""
    units = to_units(body, encoding)
    return Block(body, units.count(newline) + (not units.endswith(newline)), settled, last)


def find_cut(buffer: bytes, encoding: str, newline: bytes, head: int) -> int:
    """Say how many bytes make a block, 0 when more must be read first."""
    length = find_end(buffer[: BLOCK + head], encoding, newline, head) or find_end(buffer, encoding, newline, head)
    if length or len(buffer) < PATIENCE + head:
        return length
    # A stray quote has spoilt the parity: any newline will do, and parse finds its own way.
    size = unit_size(encoding)
    units = to_units(buffer, encoding)
    end = last = units.rfind(newline, head // size)
    while end >= 0 and opens(units[(before := units.rfind(newline, head // size, end)) + 1 : end + 1]):
        end = before
    end = end if end >= 0 else last
    if end >= 0:
        return (end + 1) * size
    return len(buffer) // size * size if len(buffer) >= LONGEST_LINE + head else 0


def find_end(buffer: bytes, encoding: str, newline: bytes, head: int) -> int:
    """Say where the last line that ends outside quotes ends, 0 when there is none after the first `head` bytes."""
    size = unit_size(encoding)
    units = to_units(buffer, encoding)
    start = head // size
    end = units.rfind(newline, max(start - 1, 0))
    odd = units.count(QUOTE, start, end + 1) & 1 if end >= 0 else 0
    while end >= start:
        before = units.rfind(newline, max(start - 1, 0), end)
        line = units[max(before + 1, start) : end + 1]
        if not odd and not opens(line):
            break
        odd ^= line.count(QUOTE) & 1
        end = before
    return (end + 1) * size if end + 1 >= start and end >= 0 else 0


def opens(line: bytes) -> bool:
    """Tell a line that surely leaves a quote open: an odd one with text behind it. Parity that denies it was spoilt by a stray quote."""
    behind = line.rpartition(b'"')[2].strip(b" \r\n")
    return bool(line.count(QUOTE) & 1) and bool(behind) and behind[:1] not in b",;\t|"
