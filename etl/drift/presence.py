"""Whether a field is there, is gone, or is new, and what is no chance. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from etl.drift.contents import GONE, SURE, certain
from etl.drift.profile import Field, Profile

FEWER = 0.5
"""What is left of a field that went missing when no record is valid without it; of others `GONE` is."""
ALWAYS = 0.98
"""The share of records from which on a field counts as one that is always there."""
EXPECTED = "expected"
"""The mark of a field that was never seen and that the model requires."""


def is_missing(name: str, base: Profile, new: Profile, model: Mapping[str, bool]) -> bool:
    """Whether a field's absence is no chance, given how often it was there."""
    old, found = base.fields[name], new.fields.get(name, Field())
    if EXPECTED in old.marks:  # to the model a null may be right, a field inside a missing object is the object's
        return found.seen <= new.records / 2 and not inside(name, [path for path in base.fields if path not in new.fields])
    before, after = base.within(name), new.within(name)
    usual = min((old.filled + 1) / (before + 2), 0.9999)
    share = found.filled / after if after else usual  # inside an object that is null nothing is missing
    left = FEWER if is_required(name, base, model) else GONE
    if share > left * usual or (found.seen and usual < 0.5):
        return False
    return certain(found.filled, after, usual) > SURE


def is_absent(name: str, base: Profile, new: Profile) -> bool:
    """Whether a field that always was there is nowhere in a payload: too little for a few records, unless another took its place."""
    before = base.within(name)
    always = EXPECTED not in base.fields[name].marks and before > 0 and base.fields[name].filled >= ALWAYS * before
    return always and name not in new.fields and new.within(name) > 0


def is_unseen(name: str, base: Profile) -> bool:
    """Whether a field never appeared; what is inside an object that was always null says nothing."""
    above = base.fields.get(parent(name))
    return name not in base.fields and (above is None or "object" in above.kinds or not above.seen)


def is_added(name: str, base: Profile, new: Profile) -> bool:
    """Whether a field would have been seen before, had it been there."""
    share = min((new.fields[name].filled + 1) / (new.within(name) + 2), 0.9999)
    above = base.within(name) if parent(name) in base.fields else base.records
    return bool(any(found.filled for found in base.fields.values())) and certain(0, above, share) > SURE


def parent(name: str) -> str:
    """The path of the object a field is in, "" at the top."""
    return name.rpartition(".")[0]


def inside(name: str, names: list[str]) -> bool:
    """Whether a field is in one of some objects."""
    return any(name.startswith(f"{other}.") for other in names)


def is_required(name: str, base: Profile, model: Mapping[str, bool]) -> bool:
    """Whether no record is valid without a field."""
    return model.get(base.roles.get(name, ""), False)
