"""Answers kept as long as their version of the data stands: bounded by bytes, and made once however many ask at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

OVERHEAD = 500
"""Bytes an entry takes besides what its maker says."""


@dataclass(slots=True)
class Cache:
    """Values by key, least recently used first; `flights` are being made."""

    limit: int
    used: int = 0
    values: OrderedDict[Hashable, tuple[Any, int]] = field(default_factory=OrderedDict)
    flights: dict[Hashable, Future[Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def cached(cache: Cache, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
    """The value of a key; `make` gives it with its size in bytes, called by one while the others wait for what it gives or raises."""
    with cache.lock:
        if key in cache.values:
            cache.values.move_to_end(key)
            return cache.values[key][0]
        flight = cache.flights.get(key)
        leads = flight is None
        if flight is None:
            flight = cache.flights[key] = Future()
    if not leads:
        return flight.result()
    try:
        value, size = make()
    except BaseException as error:
        with cache.lock:
            del cache.flights[key]
        flight.set_exception(error)
        raise
    with cache.lock:
        del cache.flights[key]
        keep(cache, key, value, size + OVERHEAD)
    flight.set_result(value)
    return value


def known(cache: Cache, key: Hashable) -> Any:
    """The value of a key, None when there is none."""
    with cache.lock:
        return cache.values[key][0] if key in cache.values else None


def remember(cache: Cache, key: Hashable, value: Any, size: int) -> None:
    """Keep a value that is at hand; `size` in bytes."""
    with cache.lock:
        keep(cache, key, value, size + OVERHEAD)


def keep(cache: Cache, key: Hashable, value: Any, size: int) -> None:
    """Put a value in and the oldest out; one that would fill an eighth of the cache is not kept."""
    if size > cache.limit // 8:
        return
    cache.used += size - cache.values.pop(key, (None, 0))[1]
    cache.values[key] = value, size
    while cache.used > cache.limit:
        _, (_, freed) = cache.values.popitem(last=False)
        cache.used -= freed
