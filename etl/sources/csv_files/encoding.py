"""Which encoding a file's bytes are in, and bytes to text and back without losing one. Pure."""

from __future__ import annotations

import re
from array import array
from itertools import repeat
from sys import byteorder

from etl.errors import SourceError
from shared.excerpts import unit_size

ARCHIVES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
}
MULTIBYTE = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
HIGH = bytes(range(128, 256))
PUNCTUATION = bytes(32 if code in b"\x80\x85\x91\x92\x93\x94\x95\x96\x97\x99\xa0\xab\xae\xb0\xb7\xbb" else code for code in range(256))
CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1a\x1b"))


def detect_encoding(sample: bytes) -> str:
    """Name the encoding of a file from its first bytes: utf-8, utf-16-le, utf-16-be or cp1252. Raises SourceError on anything binary."""
    for magic, kind in ARCHIVES.items():
        if sample.startswith(magic):
            raise SourceError(f"is {kind}, not CSV: export or unpack it as CSV", permanent=True)
    if sample.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise SourceError("is in UTF-32: save it as UTF-8", permanent=True)
    if sample.startswith(b"\xff\xfe"):
        return "utf-16-le"
    if sample.startswith(b"\xfe\xff"):
        return "utf-16-be"
    if wide := detect_wide(sample):
        return wide
    if len(sample.translate(None, CONTROLS)) < 0.95 * len(sample):
        raise SourceError("is binary, not CSV: export it as CSV in UTF-8", permanent=True)
    if looks_utf8(sample):
        return "utf-8"
    if looks_foreign(sample):
        raise SourceError("is neither UTF-8 nor Windows-1252: save it as UTF-8", permanent=True)
    return "cp1252"


def looks_foreign(sample: bytes) -> bool:
    """Tell Cyrillic, Chinese or Japanese bytes from the single accents of Windows-1252: they stand side by side, or mean nothing there."""
    letters = MULTIBYTE.sub(b"", sample).translate(PUNCTUATION)
    high = len(letters) - len(letters.translate(None, HIGH))
    beside = sum(len(run) for run in re.findall(rb"[\x80-\xff]{2,}", letters))
    odd = len(re.findall(rb"(?<![\x80-\xff])[\x81-\x84\x86-\x89\x8b\x8d\x8f\x90\x98\x9b\x9d](?![\x80-\xff])", letters))
    return beside + odd >= 4 and (beside + odd) * 2 > high


def detect_wide(sample: bytes) -> str:
    """Tell UTF-16 without a BOM by where its NUL bytes are; an empty text for anything else."""
    half = len(sample) // 2
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if half < 2 or max(even, odd) < 0.5 * half or min(even, odd) > 0.05 * half:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def looks_utf8(sample: bytes) -> bool:
    """Tell UTF-8, be it with a few broken bytes, from a single-byte encoding."""
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        # The sample may end inside a character.
        if error.start >= len(sample) - 3 and error.reason == "unexpected end of data":
            return True
        good, bad = len(MULTIBYTE.findall(sample)), len(re.findall("[\udc80-\udcff]", sample.decode("utf-8", "surrogateescape")))
        return good > bad
    return True


def to_units(body: bytes, encoding: str) -> bytes:
    """Give one byte for each code unit, so that a newline or a quote is found at its own place and nowhere else."""
    if unit_size(encoding) == 1:
        return body
    units = array("H", body[: len(body) & ~1])
    if (encoding == "utf-16-le") != (byteorder == "little"):
        units.byteswap()
    return bytes(map(min, units, repeat(255)))
