"""What the database knows of drift: profiles of streams, events, accepted renames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from etl.drift.detect import Event
from etl.drift.ends import Opened
from etl.drift.memory import dump, dump_field, merge, read, read_field
from etl.drift.profile import Field, Profile, printable
from etl.errors import SourceError
from etl.lease import Run, renew_lease
from etl.source import Alias
from shared.db import Connection, Json, driver_errors_named, fetch_one
from sql import queries


@dataclass(frozen=True, slots=True)
class Known:
    """What a run knows of its source's streams when it starts: profiles, decisions as (stream, field, change), streams with open events.

    `ended` gathers the open events that its payloads disproved.
    """

    profiles: Mapping[str, Profile] = field(default_factory=dict)
    accepted: frozenset[tuple[str, str, str]] = frozenset()
    drifting: frozenset[str] = frozenset()
    ended: set[int] = field(default_factory=set)


@driver_errors_named()
def get_known(conn: Connection, source: str) -> Known:
    """Read the profiles and decisions of a source."""
    profiles = conn.execute(queries["list_profiles"], {"source": source}).fetchall()
    accepted = conn.execute(queries["list_accepted"], {"source": source}).fetchall()
    decided = frozenset((row["stream"], row["field"], row["change"]) for row in accepted)
    drifting = conn.execute(queries["list_drifting"], {"source": source}).fetchall()
    found = {row["stream"]: read(row["profile"]) for row in profiles}
    return Known(found, decided, frozenset(row["stream"] for row in drifting))


@driver_errors_named()
def list_opened(conn: Connection, source: str, stream: str) -> list[Opened]:
    """Read the events of a stream that nobody decided yet."""
    rows = conn.execute(queries["list_open_drift"], {"source": source, "stream": stream}).fetchall()
    return [opened(row) for row in rows]


def opened(row: Mapping[str, Any]) -> Opened:
    """A row as an open event."""
    before, after = (read_field(row[name]) if row[name] else None for name in ("before", "after"))
    told = (row["id"], row["field"], row["change"], row["suggested_field"], row["cause"], row["confidence"], row["note"])
    return Opened(*told, before, after)


@driver_errors_named()
def end_drifts(conn: Connection, run: Run, ids: Collection[int]) -> list[dict[str, Any]]:
    """Close the events that a good run disproved, and return them; what advised to accept them says so. Raises Fenced."""
    with conn.transaction():
        renew_lease(conn, run)
        ended = conn.execute(queries["resolve_drift"], {"ids": sorted(ids), "run_id": run.id}).fetchall()
        conn.execute(queries["mark_advice_outdated"], {"source": run.source})
    return ended


@driver_errors_named()
def count_drift(conn: Connection, run_id: int) -> int:
    """Count the open changes that a run saw."""
    row = fetch_one(conn, queries["count_run_drift"], {"run_id": run_id})
    return int(row["drift"]) if row else 0


@driver_errors_named()
def list_aliases(conn: Connection, source: str) -> list[Alias]:
    """Read the renames accepted for a source."""
    rows = conn.execute(queries["list_aliases"], {"source": source}).fetchall()
    return [Alias(row["stream"], row["upstream_field"], row["field"], row["role"], row["created_at"], row["ended_at"]) for row in rows]


@driver_errors_named()
def record(conn: Connection, run: Run, stream: str, events: tuple[Event, ...]) -> list[int]:
    """Note events and return their ids. Raises Fenced."""
    with conn.transaction():
        renew_lease(conn, run)
        for event in events:
            if event.change == "renamed":
                conn.execute(queries["resolve_renamed"], facts(run, stream, event))
        rows = [fetch_one(conn, queries["upsert_drift"], facts(run, stream, event)) for event in events]
    return [row["id"] for row in rows if row]


def facts(run: Run, stream: str, event: Event) -> dict[str, Any]:
    """An event as the statement takes it."""
    names = {"field": clean(event.field), "suggested": clean(event.suggested), "sample": clean(event.sample), "role": event.role}
    told = {name: getattr(event, name) for name in ("change", "confidence", "note", "relied", "required", "cause")}
    seen = {"before": dumped(event.before), "after": dumped(event.after)}
    return {"source": run.source, "stream": stream, "run_id": run.id} | names | told | seen


def clean(text: str | None) -> str | None:
    """A text that Postgres can hold."""
    return None if text is None else printable(text)[:500]


def dumped(found: Field | None) -> Json | None:
    """A field as the table holds it."""
    return Json(dump_field(found)) if found else None


@driver_errors_named()
def learn(conn: Connection, run: Run, stream: str, seen: Profile) -> None:
    """Add a loaded payload to its stream's profile. Raises Fenced."""
    with conn.transaction():
        renew_lease(conn, run)
        change_profile(conn, run.source, stream, seen)


def change_profile(conn: Connection, source: str, stream: str, seen: Profile) -> None:
    """Merge a profile into the stored one, which may have been changed by a decision meanwhile."""
    row = fetch_one(conn, queries["lock_profile"], {"source": source, "stream": stream})
    merged = merge(read(row["profile"]) if row else None, seen)
    conn.execute(queries["upsert_profile"], {"source": source, "stream": stream, "profile": Json(dump(merged))})


@driver_errors_named()
def accept(conn: Connection, number: int, *, force: bool) -> dict[str, Any]:
    """Decide that a change is right; effective from the next run. Raises SourceError when it must not be, or not without `force`."""
    with conn.transaction():
        row = get_event(conn, number)
        if row["accepted_at"]:
            raise SourceError(f"drift {number} is accepted already: kasparro-etl drift undo {number} takes it back", permanent=True)
        if row["resolved_at"]:
            raise SourceError(f"drift {number} has ended, nothing is to accept: kasparro-etl drift undo {number} opens it again")
        if row["note"] and "magnitude" in row["note"] and not force:
            raise SourceError(f"{refusal(row)}: pass --force if the figures mean the same", permanent=True)
        if row["change"] == "renamed":
            conn.execute(queries["end_replaced_alias"], row)
            conn.execute(queries["insert_alias"], row)
        else:
            set_field(conn, row, row["after"] if row["change"] != "missing" else None)
        conn.execute(queries["mark_drift_accepted"], {"id": number})
    return row


@driver_errors_named()
def undo(conn: Connection, number: int) -> dict[str, Any]:
    """Take a decision back; effective from the next run. Raises SourceError when there is none."""
    with conn.transaction():
        row = get_event(conn, number)
        if not row["accepted_at"] and not row["resolved_at"]:
            raise SourceError(f"drift {number} is open, it was not accepted: see kasparro-etl drift list", permanent=True)
        if row["change"] == "renamed":
            conn.execute(queries["end_alias"], row)
        elif row["accepted_at"]:
            set_field(conn, row, row["before"])
        if fetch_one(conn, queries["find_drift_again"], {"id": number}):
            raise SourceError(f"drift {number} was seen again since and is open under another number: see kasparro-etl drift list")
        conn.execute(queries["mark_drift_open"], {"id": number})
    return row


@driver_errors_named()
def dismiss(conn: Connection, number: int) -> dict[str, Any]:
    """Close an open event without a consequence; when it is seen again it is another one. Raises SourceError when it is not open."""
    with conn.transaction():
        row = get_event(conn, number)
        if row["accepted_at"] or row["resolved_at"]:
            raise SourceError(f"drift {number} is not open: see kasparro-etl drift list --all", permanent=True)
        conn.execute(queries["mark_drift_dismissed"], {"id": number})
    return row


def get_event(conn: Connection, number: int) -> dict[str, Any]:
    """One event, locked. Raises SourceError when there is none."""
    row = fetch_one(conn, queries["lock_drift"], {"id": number})
    if not row:
        raise SourceError(f"there is no drift {number}: see kasparro-etl drift list", permanent=True)
    return row


def set_field(conn: Connection, row: Mapping[str, Any], stored: Mapping[str, Any] | None) -> None:
    """Put a field into its stream's profile as it is to be, or take it out with what is inside."""
    key = {"source": row["source"], "stream": row["stream"]}
    found = fetch_one(conn, queries["lock_profile"], key)
    if not found:
        return
    if row["field"] == "*":
        conn.execute(queries["forget_profile"], key)
        return
    profile, name = read(found["profile"]), row["field"]
    fields = {path: kept for path, kept in profile.fields.items() if path != name and not path.startswith(f"{name}.")}
    if stored:
        told = read_field(stored)
        share = profile.records / told.seen if told.seen else 1.0
        fields = dict(profile.fields) | {name: scaled(told, share)}
    conn.execute(queries["upsert_profile"], key | {"profile": Json(dump(replace(profile, fields=fields)))})


def scaled(found: Field, share: float) -> Field:
    """A field as if it had been in all records that a profile knows."""
    kinds, sizes, marks = ({key: count * share for key, count in counts.items()} for counts in (found.kinds, found.sizes, found.marks))
    return replace(found, seen=found.seen * share, filled=found.filled * share, kinds=kinds, sizes=sizes, marks=marks)


def refusal(row: Mapping[str, Any]) -> str:
    """Why a change of magnitude is not accepted just so: both ranges."""
    before, after = (", ".join((row[name] or {}).get("sample", ())) for name in ("before", "after"))
    return f"{row['field']}: {row['note']}: it was {before or 'unknown'}, it is {after or 'unknown'}"
