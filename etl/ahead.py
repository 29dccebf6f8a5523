"""Making the next thing while the last one is in use: in a thread, so that it costs no time while Postgres is waited for."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield every item in order; the next is made in a thread meanwhile. What making it raises is raised in its turn.

    The first is made in the caller's thread: nothing could be done beside it.
    Who leaves it early closes it: a signal that comes while it ends by itself would be lost.
    """
    with ThreadPoolExecutor(1) as thread:
        made = list(islice(items, 1))
        while made:
            following = thread.submit(lambda: list(islice(items, 1)))
            yield made[0]
            made = following.result()
