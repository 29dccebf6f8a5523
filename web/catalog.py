"""What the API knows of the data without reading it: each source's version and counts, asked for twice a second at the most."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from sql import queries
from web.cache import Cache, cached
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
    """The newest catalog of a process and when it was asked for; `flights` keeps none, those who ask at once find each other there."""

    reader: Reader
    catalog: Catalog = field(default_factory=Catalog)
    asked_at: float = -FRESH
    flights: Cache = field(default_factory=lambda: Cache(0))


def current(watch: Watch) -> Catalog:
    """The catalog, never older than FRESH seconds. Raises as `read` does: without the database nobody knows what still holds.

    One asks while all others wait for what comes of it, a failure too: else each would wait for its own after all before it.
    """
    oldest = time.monotonic() - FRESH
    while watch.asked_at <= oldest:  # again, when the one that was waited for had begun too early
        cached(watch.flights, None, lambda: (renew(watch, oldest), 1))
    return watch.catalog


def renew(watch: Watch, oldest: float) -> Catalog:
    """Ask for the versions, and for the counts when one has changed; counts may be newer than their version, never older.

    Nothing is asked when another has been faster, and did so after `oldest`.
    """
    if watch.asked_at > oldest:
        return watch.catalog
    asked_at = time.monotonic()
    found = rows(watch.reader, queries["list_data_versions"])
    versions = {row["source"]: row["version"] for row in found}
    if versions != watch.catalog.versions:
        watch.catalog = Catalog({row["source"]: row["source_type"] for row in found}, versions, tuple(read_counts(watch.reader)))
    watch.asked_at = asked_at
    return watch.catalog


def read_counts(reader: Reader, category: str | None = None) -> Iterable[Count]:
    """Read the counts, of one category or of all."""
    return (Count(**row) for row in rows(reader, queries["list_data_counts"], {"category": category}))


@lru_cache(maxsize=100)
def version_of(catalog: Catalog, source: str | None, source_type: str | None) -> str:
    """The version of the data of one source, of one type of source, or of all."""
    wanted = (name for name in catalog.versions if source in (None, name) and source_type in (None, catalog.types[name]))
    return ",".join(f"{name}:{catalog.versions[name]}" for name in wanted)
