"""Single records cut out of a payload's bytes, exactly as upstream sent them: from JSON arrays, feeds and lines of cells. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

RECORD_LINES = 200
"""Lines a row with quoted line ends may have."""
BLANKS = re.compile(r"[ \t\r\n]*")
TAG = re.compile(rb"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|<(/?)(?:[\w.-]+:)?(?:item|entry)(?:\s[^<>]*?)?(/?)>", re.I | re.S)
scanner = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)

Taken = tuple[list[str] | None, str]
"""A row's cells, None when its quotes are broken, and its text."""


def cut_array(body: bytes, positions: Collection[int]) -> dict[int, bytes]:
    """Cut the elements at some positions out of a JSON array. Raises ValueError when the body is none, or has no such element."""
    text, wanted, found = read_json(body), set(positions), dict[int, bytes]()
    if not text.startswith("[", start := after_blanks(text, 0)):
        raise ValueError("the body is no array")
    at = after_blanks(text, start + 1)
    for position in range(max(wanted, default=-1) + 1):
        _, end = scanner.raw_decode(text, at)
        if position in wanted:
            found[position] = text[at:end].encode(errors="surrogateescape")
        at = after_blanks(text, after_blanks(text, end) + 1)
    return found


def read_json(body: bytes) -> str:
    """The body as text, a byte order mark left out. JSON between systems is UTF-8 (RFC 8259).

    A byte that is none becomes a surrogate, which no field accepts, so that it costs its own record only.
    """
    return body.decode("utf-8-sig", "surrogateescape")


def after_blanks(text: str, at: int) -> int:
    """The place of the next character that is not blank."""
    match = BLANKS.match(text, at)
    return match.end() if match else at


def cut_elements(body: bytes) -> list[bytes]:
    """Cut a feed into its elements, each up to its end tag or the next element; those of UTF-16 or under foreign names are not found."""
    tags = [tag for tag in TAG.finditer(body) if tag[1] is not None]
    ends = [tag.end() if tag[1] else tag.start() for tag in tags[1:]] + [len(body)]
    return [body[tag.start() : tag.end() if tag[2] else end] for tag, end in zip(tags, ends, strict=False) if not tag[1]]


def cut_rows(body: bytes, meta: Mapping[str, Any], positions: Collection[int]) -> dict[int, bytes]:
    """Cut the lines of the rows at some positions out of a block; `meta` is what is known of its file."""
    wanted, encoding = set(positions), meta["encoding"]
    lines = open_lines(body, meta)
    start = lines.tell()
    end = lines.seek(0, io.SEEK_END)
    half = body[len(body) // unit_size(encoding) * unit_size(encoding) :]
    found = {}
    for place, (_, text) in enumerate(islice(take_rows(lines, start, end, meta), max(wanted, default=-1) + 1)):
        if place in wanted:
            torn = half and lines.tell() == end  # the last byte is half a character, and stands for itself
            found[place] = encode(text[:-1], encoding) + half if torn else encode(text, encoding)
    return found


def take_rows(lines: io.StringIO, start: int, end: int, meta: Mapping[str, Any]) -> Iterator[Taken]:
    """Read rows with their text. Where a quote is left open, only its own line is broken, and the next is read on its own."""
    width, delimiter = int(meta["width"]), meta["delimiter"]
    lines.seek(start)
    while lines.tell() < end:
        first = lines.readline()
        behind = lines.tell()
        row = read_row(chain([first], islice(lines, RECORD_LINES)), delimiter)
        if lines.tell() != behind and (row is None or len(row) != width):
            row = None
            lines.seek(behind)
        after = lines.tell()
        text = first
        if after != behind:
            lines.seek(behind)
            text += lines.read(after - behind)
        if row is None:
            row = read_row(iter([close_up(first, delimiter)]), delimiter)
        if row is None or not is_blank(row):
            yield row, text


def read_row(lines: Iterator[str], delimiter: str) -> list[str] | None:
    """Read one row, None when its quotes are broken."""
    try:
        row: list[str] | None = next(open_reader(lines, delimiter), None)
    except csv.Error:
        return None
    return row


def close_up(line: str, delimiter: str) -> str:
    """Take away the blanks behind closing quotes, which the strict reader does not forgive."""
    return re.sub(rf'"[ \t]+(?={re.escape(delimiter)}|[\r\n]|$)', '"', line) if delimiter != "\t" else line


def open_lines(body: bytes, meta: Mapping[str, Any]) -> io.StringIO:
    """Open a block's text behind the header."""
    lines = io.StringIO(decode(body, meta["encoding"]), newline="")
    for _ in range(int(meta["skip"])):
        lines.readline()
    return lines


def open_reader(lines: Iterator[str], delimiter: str) -> Any:
    """Read rows; a quote where none belongs is an error, so that an unclosed one is noticed at the next."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)


def is_blank(row: Sequence[str]) -> bool:
    """Tell a line that holds nothing but delimiters and blanks."""
    return not any(row) or (len(row) == 1 and not row[0].strip())


def decode(body: bytes, encoding: str) -> str:
    """Turn bytes into text; what is invalid becomes lone surrogates, so that only its own row is refused."""
    if not encoding.startswith("utf-16"):
        return body.decode(encoding, "surrogateescape")
    odd = body[len(body) & ~1 :]
    return body[: len(body) & ~1].decode(encoding, "surrogatepass") + odd.decode("ascii", "surrogateescape")


def encode(text: str, encoding: str) -> bytes:
    """Give back the bytes that `decode` made this text of."""
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape")


def unit_size(encoding: str) -> int:
    """Tell how many bytes a newline takes."""
    return 2 if encoding.startswith("utf-16") else 1
