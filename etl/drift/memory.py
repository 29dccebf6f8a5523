"""What is remembered of a stream: profiles added up with the past fading, and written as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from etl.drift.profile import ANCHORS, MOST_FIELDS, Field, Profile, printable

MEMORY = 4000.0
"""Records that the past weighs at the most, so that a profile follows slow change."""


def merge(old: Profile | None, new: Profile) -> Profile:
    """Add what a payload showed to what is known; the past weighs `MEMORY` records at the most."""
    if old is None:
        return new
    weight = min(1.0, MEMORY / old.records) if old.records else 0.0
    names = list(new.fields) + [name for name in old.fields if name not in new.fields]
    found = {name: merge_field(old.fields.get(name, Field()), new.fields.get(name, Field()), weight) for name in names}
    strongest = sorted(found, key=lambda name: -found[name].seen)[:MOST_FIELDS]
    kept = {name: found[name] for name in names if name in set(strongest) and found[name].seen > 0.05}
    return Profile(old.records * weight + new.records, kept, {**old.roles, **new.roles})


def merge_field(old: Field, new: Field, weight: float) -> Field:
    """Add up two views of one field."""
    anchors = sorted({**old.anchors, **new.anchors}.items())[:ANCHORS]
    return Field(
        old.seen * weight + new.seen,
        old.filled * weight + new.filled,
        add(old.kinds, new.kinds, weight),
        add(old.sizes, new.sizes, weight),
        add(old.marks, new.marks, weight),
        dict(anchors),
        new.sample or old.sample,
    )


def add(old: Mapping[str, float], new: Mapping[str, float], weight: float) -> dict[str, float]:
    """Add up two counts, the old one weighed; what has faded is dropped."""
    found = {key: old.get(key, 0) * weight + new.get(key, 0) for key in {**old, **new}}
    return {key: round(count, 2) for key, count in sorted(found.items(), key=lambda item: -item[1])[:MOST_FIELDS] if count > 0.05}


def dump(profile: Profile) -> dict[str, Any]:
    """A profile as JSON holds it."""
    fields = {name: dump_field(found) for name, found in profile.fields.items()}
    return {"records": round(profile.records, 2), "fields": fields, "roles": dict(profile.roles)}


def dump_field(found: Field) -> dict[str, Any]:
    """A field as JSON holds it."""
    told = {name: value for name, value in asdict(found).items() if value}
    return told | {"sample": [printable(text) for text in found.sample]}


def read(stored: Mapping[str, Any]) -> Profile:
    """Read a profile from JSON."""
    return Profile(stored["records"], {name: read_field(found) for name, found in stored["fields"].items()}, stored["roles"])


def read_field(stored: Mapping[str, Any]) -> Field:
    """Read a field from JSON."""
    return Field(**{**stored, "sample": tuple(stored.get("sample", ()))})
