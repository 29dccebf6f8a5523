"""Replay: stored payloads instead of an upstream's, through the same loop as a run, with the code of today."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from etl.source import Alias, Cursor, Fetch, Payload, Source
from shared.db import Connection, Link, driver_errors_named, fetch_one
from shared.settings import Settings
from sql import queries


@dataclass(frozen=True, slots=True)
class Selection:
    """Which payloads: those of one run, those loaded since a time, or all."""

    run_id: int | None = None
    since: datetime | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self.run_id is None and self.since is None


@dataclass(frozen=True, slots=True)
class Stored:
    """A payload to replay: `loaded` is how many of its records runs have taken; `aside`: it waits in quarantine as a whole."""

    id: int
    loaded: int
    aside: bool


@driver_errors_named()
def list_stored(conn: Connection, source: Source, wanted: Selection) -> list[Stored]:
    """List the payloads of a source in the order in which runs last loaded them."""
    params = {"source": source.name, "source_type": source.type, "run_id": wanted.run_id, "since": wanted.since}
    rows = conn.execute(queries["list_replays"], params).fetchall()
    return [Stored(row["id"], row["loaded"] or 0, row["aside"]) for row in rows]


@driver_errors_named()
def read_stored(conn: Connection, source: Source, stored: Stored) -> Payload | None:
    """Read one payload with its bytes, None when it was pruned meanwhile."""
    row = fetch_one(conn, queries["get_replay"], {"source_type": source.type, "id": stored.id})
    if not row:
        return None
    told = {"head": stored.aside, "loaded_at": row["loaded_at"]}
    return Payload(bytes(row["body"]), row["url"], {}, row["fetched_at"], row["meta"], **told)


@driver_errors_named()
def count_pruned(conn: Connection, source: Source) -> int:
    """Count the payloads of a source that were loaded once and are no longer kept."""
    row = fetch_one(conn, queries["count_pruned"], {"source": source.name})
    return int(row["pruned"]) if row else 0


def replayed(source: Source, link: Link, wanted: Selection) -> Source:
    """The source that reads what was stored. Nothing of it counts as upstream's present list, and drift has seen it before.

    Only a payload that was set aside for drift is looked at again: by now the change may be accepted.
    After a lost database it begins anew, which does no harm.
    """

    def extract(settings: Settings, fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
        chosen = list_stored(link.conn, source, wanted)
        for number, stored in enumerate(chosen, 1):
            payload = read_stored(link.conn, source, stored)
            if payload:
                yield replace(payload, done=number, total=len(chosen))

    rename = source.shape.rename
    if rename is None:
        return replace(source, extract=extract)

    def renamed(ours: Source, aliases: Sequence[Alias]) -> Source:
        return replace(rename(ours, aliases), extract=extract)

    return replace(source, extract=extract, shape=replace(source.shape, rename=renamed))
