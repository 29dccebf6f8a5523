"""The comparison of a payload with what its stream sent so far: fields added, missing, renamed, or something else by now. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from etl.drift.contents import new_content, new_kind, new_unit
from etl.drift.presence import EXPECTED, inside, is_absent, is_added, is_missing, is_required, is_unseen, parent
from etl.drift.profile import Field, Profile
from etl.drift.renames import Match, compare_names, score

SUGGESTED = 0.6
"""The confidence from which on two fields are called a rename."""
TRUSTED = 0.75
"""The confidence from which on a rename counts as a field that is still there."""
ALIKE = 0.8
"""How alike two names are, at the least, when a payload has too few records to tell that a field is missing."""
FEWEST = 3


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one field. `required`: without the field no record is valid; `relied`: we load it; `note`: what a person must know.

    `cause` tells two changes of one field apart that are of one kind: text where numbers were, later numbers of another unit.
    """

    field: str
    change: str
    suggested: str | None = None
    confidence: float | None = None
    sample: str | None = None
    note: str | None = None
    required: bool = False
    relied: bool = False
    before: Field | None = None
    after: Field | None = None
    role: str | None = None
    cause: str = ""

    @property
    def blocks(self) -> bool:
        """Whether a policy may stop over it: an added field never does."""
        return self.change != "added"


@dataclass(frozen=True, slots=True)
class Findings:
    """The events of one payload; `foreign`: most of what the stream has is gone, so this is another upstream altogether."""

    events: tuple[Event, ...] = ()
    foreign: bool = False


def compare(base: Profile | None, new: Profile, model: Mapping[str, bool]) -> Findings:
    """Compare a payload with its stream's profile; without one, with what the model requires. `model`: role to whether it is required."""
    if base is None:
        base = expected(new, model)
    if new.records < 1 or not base.fields:
        return Findings()
    new, moved = follow_objects(base, new, model)
    missing = [name for name in base.fields if is_missing(name, base, new, model)]
    unseen = [name for name, found in new.fields.items() if found.filled and is_unseen(name, base)]
    absent = [name for name in base.fields if name not in missing and is_absent(name, base, new)]
    renames = pair(base, new, [*missing, *absent], unseen)
    renames = {old: found for old, found in renames.items() if old in missing or compare_names(old, found[0]) >= ALIKE}
    events = [renamed(base, new, old, name, match, model) for old, (name, match) in renames.items()]
    taken = {name for name, _ in renames.values()}
    events += [event(base, new, name, "missing", model) for name in missing if name not in renames and not inside(name, missing)]
    fresh = [name for name in unseen if name not in taken and is_added(name, base, new)]
    events += [event(base, new, name, "added", model) for name in fresh if not inside(name, fresh)]
    if is_foreign(base, new, renames, model):
        names = ", ".join(sorted(name for name in missing if name in base.roles)) or ", ".join(sorted(missing))
        return Findings((Event("*", "missing", sample=names[:300], note="most fields are gone", required=True, relied=True),), True)
    events += retyped(base, new, model)
    return Findings((*moved, *(change for change in events if change.field not in {one.field for one in moved})))


def held(new: Profile) -> set[str]:
    """What we find in a payload's fields, whatever upstream calls them."""
    return {role for name, role in new.roles.items() if name in new.fields}


def expected(new: Profile, model: Mapping[str, bool]) -> Profile:
    """What is known before a first payload: that the required fields are there."""
    needed = [name for name, required in model.items() if required and name not in held(new)] if new.records >= FEWEST else []
    fields = {name: Field(marks={EXPECTED: 1}) for name in needed}
    return Profile(new.records, fields, {name: name for name in model})


def follow_objects(base: Profile, new: Profile, model: Mapping[str, bool]) -> tuple[Profile, list[Event]]:
    """Find objects that were renamed as a whole, and give back the payload's profile as if they had not been."""
    moved: list[Event] = []
    for old, known in base.fields.items():
        if old in new.fields or known.share("object") < 0.5:
            continue
        best = max(((like(base, new, old, name), name) for name in new.fields if is_object(name, base, new)), default=(0.0, ""))
        if best[0] >= SUGGESTED:
            told = replace(event(base, new, old, "renamed", model), suggested=best[1], confidence=round(best[0], 2))
            moved.append(replace(told, after=new.fields[best[1]], sample=", ".join(inner(new, best[1]))[:300]))
            new = replace(new, fields={move(name, best[1], old): found for name, found in new.fields.items()})
    return new, moved


def is_object(name: str, base: Profile, new: Profile) -> bool:
    """Whether a field is an object that never appeared."""
    return name not in base.fields and new.fields[name].share("object") >= 0.5


def inner(profile: Profile, name: str) -> set[str]:
    """The fields directly or further inside an object."""
    return {path[len(name) + 1 :] for path in profile.fields if path.startswith(f"{name}.")}


def like(base: Profile, new: Profile, old: str, name: str) -> float:
    """How likely an object is another: by what is inside."""
    if parent(old) != parent(name):
        return 0.0
    before, after = inner(base, old), inner(new, name)
    return len(before & after) / len(before | after) if before and after else 0.0


def move(name: str, path: str, to: str) -> str:
    """A field's path after the object it is in got another one."""
    return to + name[len(path) :] if name == path or name.startswith(f"{path}.") else name


def pair(base: Profile, new: Profile, missing: list[str], unseen: list[str]) -> dict[str, tuple[str, Match]]:
    """Pair missing fields with unseen ones, the most likely pair first, each field once."""
    stayed = [base.fields[name] for name in base.fields if name in new.fields and name not in missing and base.fields[name].anchors]
    rated: list[tuple[float, str, str, Match]] = []
    for old in missing:
        if base.fields[old].share("object") >= 0.5:
            continue
        for name in unseen:
            if new.fields[name].share("object") < 0.5:
                match = score(old, base.fields[old], name, new.fields[name], stayed)
                if match.confidence >= SUGGESTED:
                    rated.append((match.confidence, old, name, match))
    found: dict[str, tuple[str, Match]] = {}
    for _, old, name, match in sorted(rated, key=lambda one: (-one[0], one[1], one[2])):
        if old not in found and name not in {taken for taken, _ in found.values()}:
            found[old] = (name, match)
    return found


def event(base: Profile, new: Profile, name: str, change: str, model: Mapping[str, bool]) -> Event:
    """An event of a field with what is known of it before and after."""
    before, after = base.fields.get(name), new.fields.get(name)
    shown = ", ".join((after if change != "missing" and after else before or Field()).sample) or None
    role = base.roles.get(name) or new.roles.get(name)
    return Event(name, change, None, None, shown, None, is_required(name, base, model), role is not None, before, after, role)


def renamed(base: Profile, new: Profile, old: str, name: str, match: Match, model: Mapping[str, bool]) -> Event:
    """The event of a rename; one that changes magnitude says so."""
    after = new.fields[name]
    note = f"magnitude differs by a factor of {match.factor:g}" if match.factor is not None else None
    told = replace(event(base, new, old, "renamed", model), suggested=name, confidence=match.confidence, note=note, after=after)
    return replace(told, sample=", ".join(after.sample))


def retyped(base: Profile, new: Profile, model: Mapping[str, bool]) -> list[Event]:
    """The fields that are still there and hold something else."""
    found: list[Event] = []
    for name, old in base.fields.items():
        after = new.fields.get(name)
        if not after or not old.filled or not after.filled:
            continue
        note = new_kind(old, after, relied=name in base.roles) or new_unit(old, after) or new_content(name, base, after)
        if note:
            cause = "magnitude" if note.startswith("magnitude") else note.partition(" where ")[0]
            found.append(replace(event(base, new, name, "retyped", model), note=note, cause=cause))
    return found


def is_foreign(base: Profile, new: Profile, renames: Mapping[str, tuple[str, Match]], model: Mapping[str, bool]) -> bool:
    """Whether this is no drift but another upstream: most fields are gone and a required one is among them."""
    renames = {old: pair for old, pair in renames.items() if pair[1].factor is None and pair[1].confidence >= TRUSTED}
    usual = [name for name, found in base.fields.items() if found.seen >= 0.9 * base.within(name) and found.share("object") < 0.5]
    kept = [name for name in usual if name in new.fields or name in renames]
    there = held(new)  # a file's header may call a field otherwise
    gone = [name for name in base.fields if name not in new.fields and name not in renames and base.roles.get(name) not in there]
    lost = any(is_required(name, base, model) for name in gone)
    roots = {name.partition(".")[0] for name in usual if name not in kept}
    return lost and len(roots) > 1 and len(kept) * 2 < len(usual)  # one root alone may have been renamed
