"""The parsed values of a payload, cut into batches, each validated and ready to be committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from etl.batch import Batch
from etl.position import Position, pending
from etl.source import Cursor, Payload
from etl.validate import validate
from etl.work import Work


def ready(
    work: Work, payload: Payload, digest: Any, cursor: Cursor, values: Iterator[Any], start: int, left: int | None
) -> Iterator[tuple[Batch, bool]]:
    """Make batches of values from position `start` on, at most `left` records, ready to be committed; tell which is the payload's last.

    `cursor` is where the source stood before the payload.
    """
    for first, part, last in batches(values, start, work.options.batch_size):
        if left is not None:
            part, last, left = part[:left], last and len(part) <= left, max(left - len(part), 0)
        after = Position(payload.cursor) if last else Position(cursor, pending(payload, digest.hexdigest(), first + len(part)))
        yield stage(Batch(payload, digest.digest(), first, len(part), validate(work.source, part, first), after, work.chaos.strike)), last
        if left == 0:
            return


def stage(batch: Batch) -> Batch:
    """Make a batch's lines now, so that its transaction need not: a thread does so while the batch before is written."""
    with suppress(UnicodeEncodeError):  # raised again where a culprit is looked for
        assert batch.lines is not None
    return batch


def batches(values: Iterator[Any], start: int, size: int) -> Iterator[tuple[int, list[Any], bool]]:
    """Cut values from position `start` on into lists of at most `size`, each with its first position and whether it is the last.

    There is always one, empty when nothing is left: a payload without records still moves the checkpoint.
    """
    deque(islice(values, start), maxlen=0)
    part = list(islice(values, size))
    while True:
        following = list(islice(values, size))
        yield start, part, not following
        if not following:
            return
        start, part = start + len(part), following
