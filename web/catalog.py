"""What the API knows of the data without reading it: each source's version and counts, asked for twice a second at the most."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from sql import queries
from web.db import Reader, rows

FRESH = 0.5
"""Seconds for which a version is taken to stand."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many records a source has of one kind and status."""

    source: str
    kind: str
    status: str
    records: int


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """The sources as they were at one moment: name to type, name to version, and the counts. Equal to itself alone."""

    types: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    counts: tuple[Count, ...] = ()


@dataclass(slots=True)
class Watch:
    """The newest catalog of a process and when it was asked for."""

    reader: Reader
    catalog: Catalog = field(default_factory=Catalog)
    asked_at: float = -FRESH
    lock: threading.Lock = field(default_factory=threading.Lock)


def current(watch: Watch) -> Catalog:
    """The catalog, never older than FRESH seconds. Raises as `read` does: without the database nobody knows what still holds."""
    if time.monotonic() - watch.asked_at >= FRESH:
        with watch.lock:
            if time.monotonic() - watch.asked_at >= FRESH:
                renew(watch)
    return watch.catalog


def renew(watch: Watch) -> None:
    """Ask for the versions, and for the counts when one has changed; counts may be newer than their version, never older."""
    asked_at = time.monotonic()
    found = rows(watch.reader, queries["list_data_versions"])
    versions = {row["source"]: row["version"] for row in found}
    if versions != watch.catalog.versions:
        watch.catalog = Catalog({row["source"]: row["source_type"] for row in found}, versions, tuple(read_counts(watch.reader)))
    watch.asked_at = asked_at


def read_counts(reader: Reader, category: str | None = None) -> Iterable[Count]:
    """Read the counts, of one category or of all."""
    return (Count(**row) for row in rows(reader, queries["list_data_counts"], {"category": category}))


@lru_cache(maxsize=100)
def version_of(catalog: Catalog, source: str | None, source_type: str | None) -> str:
    """The version of the data of one source, of one type of source, or of all."""
    wanted = (name for name in catalog.versions if source in (None, name) and source_type in (None, catalog.types[name]))
    return ",".join(f"{name}:{catalog.versions[name]}" for name in wanted)
