"""Standard output and standard error that never fail the work: what cannot be written is dropped, and that it was is remembered."""

from __future__ import annotations

import codecs
import io
import select
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STANDARD = (1, 2)
"""Descriptors that are there as long as the process is."""


ESCAPING = "kasparro-escaping"
"""The name under which the codecs find `escape`."""


def escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what was no text as the bytes it was, and what an encoding does not have as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(ESCAPING, escape)


class Sink(io.FileIO):
    """A descriptor whose writes never raise; `lost` is why the first of them that failed did.

    With `whole`, nothing is written after a loss: better an output that ends than one with a hole.
    """

    lost: OSError | None = None
    whole = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some bytes, or drop them."""
        if self.lost and self.whole:
            return memoryview(data).nbytes
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # quirk: whoever shares the descriptor made it non-blocking
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes
        return written


def unfailing(stream: TextIO | None, *, whole: bool = False) -> TextIO:
    """Give a text stream to the same descriptor that never raises; what is none of the standard streams is given back, None is nowhere.

    The bytes of one write go out in one write, as before; a character that its encoding does not have is written as an escape.
    """
    if stream is None:  # quirk: Python's value for what the caller closed
        return io.StringIO()
    if not isinstance(stream, io.TextIOWrapper) or type(raw(stream)) is not io.FileIO or stream.fileno() not in STANDARD:
        return stream
    with suppress(OSError):
        stream.flush()  # what was written before comes before
    opened = Sink(stream.fileno(), "wb", closefd=False)
    opened.whole = whole
    lines = stream.line_buffering or stream.write_through  # quirk: PYTHONUNBUFFERED sets the second alone
    errors = {"strict": "backslashreplace", "surrogateescape": ESCAPING}.get(stream.errors or "strict", stream.errors)
    return io.TextIOWrapper(io.BufferedWriter(opened), encoding=stream.encoding, errors=errors, line_buffering=lines)


def lost(stream: TextIO) -> OSError | None:
    """Why something written to an unfailing stream did not arrive, None while all of it did."""
    stream.flush()
    found = sink(stream)
    return found.lost if found else None


def sink(stream: TextIO) -> Sink | None:
    """The descriptor under a stream where it is one of ours."""
    found = raw(stream)
    return found if isinstance(found, Sink) else None


def raw(stream: TextIO) -> object:
    """What stands at the bottom of a text stream."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
