"""A batch: some records of one payload on their way into the tables. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from etl.position import Position
from etl.source import Payload, Row
from etl.validate import Validated


def silent(_point: str) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Batch:
    """Records of one payload, validated; `size` counts accepted and rejected; `after` is the position to commit.

    `around` is told of the two edges of the commit; failure injection listens there. `lines` is what COPY reads, kept once made.
    """

    payload: Payload
    sha256: bytes
    first: int
    size: int
    validated: Validated
    after: Position
    around: Callable[[str], None] = silent

    @cached_property
    def lines(self) -> bytes:
        return staged(self.validated.accepted)


def staged(accepted: Sequence[tuple[int, Row]]) -> bytes:
    """Write rows as the lines that COPY reads; the csv module does the quoting, an empty cell is null.

    The line end is the long one so that a lone carriage return inside a cell is quoted too.
    """
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\r\n").writerows([(position, *row) for position, row in accepted])
    return lines.getvalue().encode()
