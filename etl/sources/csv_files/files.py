"""The files that `CSV_PATHS` names, opened and inflated; anything but a regular file is refused."""

from __future__ import annotations

import glob
import gzip
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO, cast

from etl.errors import SourceError

GZIP = b"\x1f\x8b"
MOST_RATIO, FREE = 250, 16 * 1024 * 1024
"""How many fold a file may inflate, and the bytes from which on that counts: a table inflates five to fifty fold, a bomb a thousand."""


class BoundedGzip(gzip.GzipFile):
    """A gzip file that stops where it inflates as no table does, so that its size on the disk bounds the time it takes."""

    def read1(self, size: int = -1) -> bytes:
        """Read some bytes. Raises OSError when the file is a bomb."""
        part = super().read1(size)
        if self.tell() > FREE and self.tell() > MOST_RATIO * self.packed.tell():
            raise OSError(f"it inflates more than {MOST_RATIO}-fold, as no table does")
        return part

    def __init__(self, packed: BinaryIO) -> None:
        self.packed = packed
        super().__init__(fileobj=packed, mode="rb")


def find_files(patterns: Sequence[str]) -> tuple[list[str], list[tuple[str, SourceError]]]:
    """List the files of some paths and patterns by absolute path, and the patterns that name none."""
    found: set[str] = set()
    failures: list[tuple[str, SourceError]] = []
    for pattern in patterns:
        try:
            where = os.path.abspath(os.path.expanduser(pattern))
        except OSError:
            told = "is relative to a working directory that is gone: start in another one, or name the file by its absolute path"
            failures.append((pattern, SourceError(told)))
            continue
        # A file may be named like a pattern; it must not hide what the pattern matches.
        named = [where] if os.path.lexists(where) else []
        matches = named if named and not set("*?") & set(pattern) else named + glob.glob(where, recursive=True)
        found.update(matches)
        if not matches:
            told = "no such file: put one there, or name others in CSV_PATHS, or after --file"
            failures.append((pattern, SourceError(told, permanent=True)))
    return sorted(found), failures


def look_at(path: str) -> os.stat_result:
    """Stat a file. Raises SourceError for one that is missing, not regular, or has a name that no database can hold."""
    try:
        path.encode()
        found = os.stat(path)
    except UnicodeEncodeError:
        raise SourceError("has a name that is not UTF-8: rename the file", permanent=True) from None
    except OSError as error:
        raise refuse(error) from error
    require_regular(found)
    return found


def moment_of(seconds: float) -> datetime:
    """When a file was changed. Raises SourceError for a year that no calendar here has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise SourceError("was changed in a year beyond 9999, as its time says: touch the file", permanent=True) from None


def size_of(path: str) -> int:
    """Give a file's size, 0 for what is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def require_regular(found: os.stat_result) -> None:
    """Refuse what could block or never end. Raises SourceError."""
    if stat.S_ISDIR(found.st_mode):
        raise SourceError("is a directory: name its files in CSV_PATHS, for example with /*.csv", permanent=True)
    if not stat.S_ISREG(found.st_mode):
        raise SourceError("is not a regular file: name a file in CSV_PATHS", permanent=True)


def refuse(error: OSError) -> SourceError:
    """Say in one line why a file cannot be read."""
    reason = (error.strerror or type(error).__name__).lower()
    message = f"cannot be read ({reason}): check that it exists and that this user may read it"
    return SourceError(message, permanent=isinstance(error, PermissionError))


@contextmanager
def open_file(path: str) -> Iterator[tuple[BinaryIO, BinaryIO | None]]:
    """Open a file for reading; the second is its inflated form when it is gzip. Raises SourceError when it cannot be."""
    try:
        # It may have become a FIFO since it was looked at, and must not block then.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise refuse(error) from error
    with os.fdopen(descriptor, "rb") as file:
        require_regular(os.fstat(file.fileno()))
        try:
            magic = file.read(2)
            file.seek(0)
        except OSError as error:
            raise refuse(error) from error
        if magic != GZIP:
            yield file, None
            return
        with BoundedGzip(file) as inflated:
            yield file, cast(BinaryIO, inflated)
