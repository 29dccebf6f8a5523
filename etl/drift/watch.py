"""A look at every payload before its first batch: what changed is recorded and told, and the policy decides whether it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import structlog
from pydantic import BaseModel

from etl.drift.detect import Event, Findings, compare
from etl.drift.ends import find_ended, same_causes
from etl.drift.profile import Profile, Record, survey
from etl.drift.store import Known, end_drifts, learn, list_opened, record
from etl.errors import Refused, SourceError, Unrecognised
from etl.guard import FEWEST_INVALID
from etl.lease import Run
from etl.source import Payload, Source
from etl.validate import validate
from etl.work import Work

log = structlog.get_logger()

NAMED = 5
"""Drifts that a message names."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was seen of a payload, and what is to be done: refuse it, keep it aside, learn from it once it is loaded.

    `ended` are the open events that it disproves.
    """

    stream: str = ""
    seen: Profile | None = None
    drifts: tuple[int, ...] = ()
    reason: str = ""
    refused: Refused | None = None
    keep: bool = False
    aside: bool = False
    ended: tuple[int, ...] = ()


def look(work: Work, run: Run, known: Known, source: Source, payload: Payload, head: Sequence[Any]) -> Verdict:
    """Compare the first records of a payload with its stream, record what changed, and apply the policy. Raises Fenced."""
    shape, stream = source.shape, source.shape.stream(payload)
    model = model_roles(source.record) or dict.fromkeys(shape.required, True)
    told = shape.roles(payload) if shape.roles else {name: name for name in model}
    seen = survey(shape.fields(payload, head) if shape.fields else identified(source, head), told)
    base = known.profiles.get(stream)
    findings = compare(base, seen, model)
    if base is None:
        kept = tuple(event for event in findings.events if (stream, event.field, event.change) not in known.accepted)
        findings = Findings(kept, findings.foreign and bool(kept))
    ended: list[int] = []
    if findings.events or stream in known.drifting:
        opened = list_opened(work.link.conn, source.name, stream)
        findings = same_causes(opened, base, seen, findings, model)
        ended = find_ended(opened, base, seen, findings, model)
    drifts = tell(work, run, stream, findings.events)
    return judge(work, source, head, findings, Verdict(stream, seen, tuple(drifts), ended=tuple(ended)))


def identified(source: Source, head: Sequence[Any]) -> Iterator[Record]:
    """The records among parsed values, each with its id; what is none counts as an empty one."""
    for value in head:
        yield (source.identify(value), value) if isinstance(value, dict) else (None, {})


@lru_cache(maxsize=64)
def model_roles(record: Any) -> dict[str, bool]:
    """The fields a record's model relies on, and whether each is required; a model inside a model with dots."""
    if not (isinstance(record, type) and issubclass(record, BaseModel)):
        return {}
    found: dict[str, bool] = {}
    for name, info in record.model_fields.items():
        told = info.validation_alias if isinstance(info.validation_alias, str) else name
        found[told] = info.is_required()
        annotation: Any = info.annotation
        inside = model_roles(annotation)
        found |= {f"{told}.{path}": required and info.is_required() for path, required in inside.items()}
    return found


def tell(work: Work, run: Run, stream: str, events: tuple[Event, ...]) -> list[int]:
    """Record events, unless nothing is to be written, and warn of each. What a replay sees is old: runs judge what upstream sends now."""
    if not events:
        return []
    drifts = [] if work.options.dry_run or run.replay else record(work.link.conn, run, stream, events)
    for at, event in enumerate(events):
        facts = {"field": event.field, "change": event.change, "suggested_field": event.suggested, "confidence": event.confidence}
        more = {"note": event.note, "stream": stream or None, "drift_id": drifts[at] if drifts else None}
        log.warning("schema drifted", **facts, **{name: value for name, value in more.items() if value is not None})
    return drifts


def judge(work: Work, source: Source, head: Sequence[Any], findings: Findings, verdict: Verdict) -> Verdict:
    """Apply the policy to the changes of fields that we rely on; others are events only."""
    grave = [(event, at) for at, event in enumerate(findings.events) if event.blocks and event.relied]
    if not grave:
        return verdict
    policy = work.settings.etl_drift_policy
    reason = say(grave)
    numbers = [verdict.drifts[at] for _, at in grave[:NAMED]] if verdict.drifts else []
    command = f"`kasparro-etl drift accept {' '.join(map(str, numbers)) or 'ID'}`"
    if findings.foreign:
        told = f"most fields it used to send are gone ({findings.events[0].sample}): check its address, or if that is right"
        return refuse(verdict, f"{told} {command}", keep=policy != "freeze")
    if policy == "freeze":
        told = f"{reason}: nothing is written as ETL_DRIFT_POLICY=freeze asks: see `kasparro-etl drift list`, then {command}"
        return refuse(verdict, told, keep=False)
    if policy == "quarantine":
        return replace(verdict, reason=reason, aside=True, seen=None)
    invalid = len(validate(source, head, 0).rejected)
    if invalid > work.settings.etl_max_invalid_ratio * len(head) and (invalid >= FEWEST_INVALID or invalid == len(head)):
        told = f"{reason}: {invalid} of the first {len(head)} records are invalid so: see `kasparro-etl drift list`"
        readable = any(event.change == "renamed" for event, _ in grave)  # accepting anything else makes no record valid
        return refuse(verdict, f"{told}, then {command}" if readable else f"{told}: they load once upstream sends it as before", keep=True)
    return replace(verdict, seen=None)


def refuse(verdict: Verdict, message: str, *, keep: bool) -> Verdict:
    """The verdict that ends the run; `keep`: the payload is kept with one entry in quarantine."""
    return replace(verdict, refused=Refused(message, permanent=True), reason=message, keep=keep, seen=None)


def say(grave: Sequence[tuple[Event, int]]) -> str:
    """The gravest changes on one line."""
    parts = [describe(event) for event, _ in sorted(grave, key=lambda one: not one[0].required)[:NAMED]]
    return "; ".join(parts) + (f" and {len(grave) - NAMED} more" if len(grave) > NAMED else "")


def describe(event: Event) -> str:
    """One change in a few words."""
    note = f", {event.note}" if event.note else ""
    if event.change == "renamed":
        return f"{event.field} looks renamed to {event.suggested} (confidence {event.confidence:.2f}{note})"
    return f"{event.field} {'became something else' if event.change == 'retyped' else 'is ' + event.change}{note}"


def note_loaded(work: Work, run: Run, known: Known, verdict: Verdict) -> None:
    """Learn from a payload that was loaded to its end. Raises Fenced."""
    known.ended.update(verdict.ended)
    if verdict.seen and not work.options.dry_run:
        learn(work.link.conn, run, verdict.stream, verdict.seen)


def note_ended(work: Work, run: Run, known: Known) -> None:
    """Close the events that a run disproved which came to its end; what is replayed is not what upstream sends now. Raises Fenced."""
    if not known.ended or work.options.dry_run or run.replay:
        return
    for row in end_drifts(work.link.conn, run, known.ended):
        log.info("drift ended", field=row["field"], change=row["change"], stream=row["stream"] or None, drift_id=row["id"])


def look_at_refused(work: Work, run: Run, known: Known, error: SourceError) -> SourceError:
    """Compare files that were refused for a column that is not recognised with their streams; the error with the suggestions."""
    found: list[str] = []
    for cause in getattr(error, "causes", ()):
        base = known.profiles.get(cause.stream) if isinstance(cause, Unrecognised) else None
        if not base or not isinstance(cause, Unrecognised):
            continue
        findings = compare(base, survey(cause.records, {}), dict.fromkeys(work.source.shape.required, True))
        events = tuple(event for event in findings.events if not findings.foreign)
        drifts = tell(work, run, cause.stream, events)
        told = [
            f"{describe(event)}: `kasparro-etl drift accept {number}`"
            for event, number in zip(events, drifts, strict=False)
            if event.relied and event.change == "renamed"  # that a needed column is gone is nothing to accept
        ]
        found += [f"{cause.stream}: {text}" for text in told[:NAMED]]
    if found:
        error.args = ("; ".join([str(error), *found]),)
        if hasattr(error, "parts"):
            error.parts = [*error.parts, *found]
    return error
