"""Making the next thing while the last one is in use: in a thread, so that it costs no time while Postgres is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield every item in order; the next is made in a thread meanwhile. What making it raises is raised in its turn.

    The first is made in the caller's thread: nothing could be done beside it.
    """
    with ThreadPoolExecutor(1) as thread:
        ended = object()
        item: T | object = next(items, ended)
        while item is not ended:
            following = thread.submit(next, items, ended)
            yield item  # type: ignore[misc]
            item = following.result()
