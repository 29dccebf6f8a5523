"""Whether a field that is still there holds something else: another kind of value, another unit, another field's contents. Pure."""

from __future__ import annotations

import math
from statistics import median

from etl.drift.profile import Field, Profile
from etl.drift.renames import ENOUGH, SHIFT, at_share, shifts, spread

SURE = 9.2
"""Evidence, as a logarithm, from which on something is no chance: one in ten thousand."""
GONE = 0.05
"""What is left of a field or a kind of value that went missing, at the most."""
UNIT, FURTHER = 0.9, 1.9
"""Decades that make another unit: when known records all moved alike, and when they only moved the same way."""


def certain(count: float, total: float, share: float) -> float:
    """The evidence against `count` of `total` when each has this share: a bound of the binomial tail, as a logarithm."""
    if total <= 0:
        return 0.0
    found = count / total
    told = found * math.log(found / share) if found else 0.0
    return total * (told + ((1 - found) * math.log((1 - found) / (1 - share)) if found < 1 else 0.0))


def new_kind(old: Field, new: Field, *, relied: bool) -> str | None:
    """What a field's values became, when they are of another kind than before."""
    for kind, count in new.kinds.items():
        usual = (old.kinds.get(kind, 0) + 1) / (old.filled + 2)
        least = 0.3 if relied else 0.5
        if old.share(kind) <= GONE and count / new.filled >= least and certain(count, new.filled, usual) > SURE:
            before = max(old.kinds, key=lambda one: old.kinds[one])
            return f"{kind} where {before} was"
    return None


def new_unit(old: Field, new: Field) -> str | None:
    """By which factor a field's numbers moved, when all moved so far that it is another unit."""
    moved = shifts(old, new)
    if len(moved) >= ENOUGH:
        middle = median(moved)
        alike = abs(middle) >= UNIT and spread(moved) <= SHIFT
        onward = abs(middle) >= FURTHER and sum(value * middle > 0 for value in moved) >= 0.9 * len(moved)
        return f"magnitude differs by a factor of {float(f'{10**middle:.3g}'):g}" if alike or onward else None
    if min(sum(old.sizes.values()), sum(new.sizes.values())) < 50:
        return None
    gaps = [(at_share(new, share) or 0) - (at_share(old, share) or 0) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    if min(abs(gap) for gap in gaps) < FURTHER or max(gaps) - min(gaps) > 0.8:
        return None
    return f"magnitude differs by a factor of {float(f'{10 ** gaps[2]:.3g}'):g}"


def new_content(name: str, base: Profile, new: Field) -> str | None:
    """Which other field's texts a field holds now."""
    old = base.fields[name]
    both = [key for key in new.anchors if key in old.anchors and isinstance(new.anchors[key], str)]
    if len(both) < ENOUGH or sum(old.anchors[key] == new.anchors[key] for key in both) > 0.2 * len(both):
        return None
    for other, known in base.fields.items():
        if other != name and sum(known.anchors.get(key) == new.anchors[key] for key in both) >= 0.8 * len(both):
            return f"holds what {other} held"
    return None
