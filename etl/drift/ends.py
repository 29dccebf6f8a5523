"""Whether an open change still holds: a field that is as before closes its event, and one cause stays one event. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from etl.drift.detect import Event, Findings, compare, event, held
from etl.drift.presence import is_missing
from etl.drift.profile import Field, Profile


@dataclass(frozen=True, slots=True)
class Opened:
    """An event that nobody decided yet; `before` and `after` are the field as it was, and as it became."""

    id: int
    field: str
    change: str
    suggested: str | None
    cause: str
    confidence: float | None
    note: str | None
    before: Field | None
    after: Field | None


def find_ended(opened: Sequence[Opened], base: Profile | None, new: Profile, findings: Findings, model: Mapping[str, bool]) -> list[int]:
    """Tell which open events a payload disproves, by their ids; `findings` are what the payload shows otherwise."""
    if findings.foreign or new.records < 1:
        return []
    return [one.id for one in opened if has_ended(one, base, new, model)]


def has_ended(one: Opened, base: Profile | None, new: Profile, model: Mapping[str, bool]) -> bool:
    """Whether a field is as it was before its event. What was learned meanwhile does not count: the event knows how it was."""
    if one.field == "*":
        return base is not None
    if one.change == "added":
        return base is not None and is_missing(one.field, with_field(base, one.field, one.after or Field()), new, model)
    if not (one.field in held(new) or new.fields.get(one.field, Field()).filled):
        return False
    then = with_field(base, one.field, one.before) if base and one.before else base
    shown = compare(then, new, model)
    return not shown.foreign and all((each.field, each.change, each.cause) != (one.field, one.change, one.cause) for each in shown.events)


def with_field(base: Profile, name: str, found: Field) -> Profile:
    """A profile with one field as it is told."""
    return replace(base, fields={**base.fields, name: found})


def same_causes(opened: Sequence[Opened], base: Profile | None, new: Profile, findings: Findings, model: Mapping[str, bool]) -> Findings:
    """The findings with a rename that is known in the place of what it looks like in a payload that shows less of it."""
    renames = {one.field: one for one in opened if one.change == "renamed" and one.suggested in new.fields}
    missing = {each.field for each in findings.events if each.change == "missing"}
    known = {name: one for name, one in renames.items() if name in missing}
    if base is None or not known:
        return findings
    arrived = {one.suggested for one in known.values()}
    kept = (each for each in findings.events if not (each.change == "added" and each.field in arrived))
    return replace(findings, events=tuple(as_rename(base, new, known[each.field], model) if each.field in known else each for each in kept))


def as_rename(base: Profile, new: Profile, one: Opened, model: Mapping[str, bool]) -> Event:
    """A rename that is known, seen again."""
    after = new.fields[one.suggested or ""]
    told = replace(event(base, new, one.field, "renamed", model), suggested=one.suggested, confidence=one.confidence, note=one.note)
    return replace(told, sample=", ".join(after.sample) or None, after=after)
