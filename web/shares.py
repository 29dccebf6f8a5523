"""How many connections each worker has, in memory that all of them share: who has more than another lets that one take the next."""

from __future__ import annotations

import mmap
from collections.abc import Iterable

MOST = 64
"""Workers that can be told apart; those beyond share a place, which only makes the shares less even."""
told = memoryview(mmap.mmap(-1, 4 * MOST)).cast("i")
"""A place for each worker, written by it alone: its connections and one, or nothing. Made before the workers are forked: it is theirs."""


def enter(taken: Iterable[int]) -> int:
    """Give a worker that is about to begin a place that is not taken."""
    place = min({*range(MOST)} - {*taken}, default=MOST - 1)
    tell(place, 0)
    return place


def tell(place: int, connections: int) -> None:
    """Let the other workers know how many connections there are here."""
    told[place] = connections + 1


def leave(place: int) -> None:
    """Free the place of a worker that is gone."""
    told[place] = 0


def fewest() -> int:
    """The least number of connections a worker has."""
    return min((each - 1 for each in told if each), default=0)
