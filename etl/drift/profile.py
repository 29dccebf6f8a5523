"""What the records of one stream look like, field by field: presence, kinds of values, magnitudes, shapes. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from zlib import crc32

PEEK = 500
"""Records of a payload that are looked at."""
ANCHORS = 64
"""Records remembered by their id, so that a field can be compared with itself: those of the lowest digests, in every payload."""
CLOSELY = 250
"""Values of a field whose magnitude or shape is looked at; of the others, only what kind they are."""
MOST_FIELDS = 300
MOST_KEYS = 60
DEEPEST = 5
SAMPLES = 3

NUMERIC = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
TIME = re.compile(r"\s*\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d.*)?", re.ASCII)
ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.I)

Record = tuple[str | None, Mapping[str, Any]]
"""One record under upstream's own names, with the id of what it is about."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: in how many records it was, and was not null; kinds of values; quarter decades of numbers; marks of shape; anchors."""

    seen: float = 0
    filled: float = 0
    kinds: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, float] = field(default_factory=dict)
    anchors: Mapping[str, float | str] = field(default_factory=dict)
    sample: tuple[str, ...] = ()

    def share(self, kind: str) -> float:
        """How much of what is not null is of a kind."""
        return self.kinds.get(kind, 0) / self.filled if self.filled else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The records of a stream; `roles` names the fields we rely on and what they are to us."""

    records: float
    fields: Mapping[str, Field]
    roles: Mapping[str, str] = field(default_factory=dict)

    def within(self, path: str) -> float:
        """How many records could have had a field: those whose parent is an object."""
        parent = path.rpartition(".")[0]
        return self.fields[parent].kinds.get("object", 0) if parent in self.fields else self.records


def survey(records: Iterable[Record], roles: Mapping[str, str]) -> Profile:
    """Profile some records."""
    taken = list(records)
    digests = {at: digest(key) for at, (key, _) in enumerate(taken) if key}
    kept = dict(sorted(digests.items(), key=lambda item: item[1])[:ANCHORS])
    columns: dict[str, list[Any]] = {}
    anchors: dict[str, dict[str, Any]] = {}
    for at, (_, record) in enumerate(taken):
        collect(record, "", columns)
        if at in kept:
            for path, value in flatten(record):
                anchors.setdefault(path, {})[kept[at]] = value
    fields = {printable(path): describe(values, anchors.get(path, {})) for path, values in columns.items()}
    return Profile(len(taken), fields, {printable(name): role for name, role in roles.items()})


def printable(text: str) -> str:
    """A text as JSON in Postgres can hold it."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def digest(key: str) -> str:
    """A short digest of an id."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def collect(record: Mapping[str, Any], prefix: str, columns: dict[str, list[Any]], depth: int = 1) -> None:
    """Add every field of a record to its column: `flatten` without the cost of a generator, for every record."""
    for name, value in record.items():
        path = prefix + name if prefix else name
        if path in columns:
            columns[path].append(value)
        elif len(columns) < MOST_FIELDS:
            columns[path] = [value]
        if type(value) is dict and depth < DEEPEST and len(value) <= MOST_KEYS:
            collect(value, f"{path}.", columns, depth + 1)


def flatten(record: Mapping[str, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Give every field under its path; an object is a field of its own and of those inside it, unless it is a table of keys."""
    for name, value in record.items():
        path = f"{prefix}{name}"
        yield path, value
        if isinstance(value, dict) and depth < DEEPEST and len(value) <= MOST_KEYS:
            yield from flatten(value, f"{path}.", depth + 1)


def kind_of(value: Any) -> str:
    """Name what a value is; "" for one that says nothing. Integers and fractions are one kind."""
    if value is None:
        return ""
    if isinstance(value, str):
        if not value.strip():
            return ""
        first = value[0]
        if NUMERIC.fullmatch(value):
            return "numeric text"
        if first.isdigit() and TIME.match(value):
            return "time"
        return "address" if ":" in value and ADDRESS.match(value) else "text"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, Decimal | int | float):
        return "number"
    if isinstance(value, dict):
        return "object" if value else ""
    return ("list" if value else "") if isinstance(value, list | tuple) else "text"


def magnitude(value: Any) -> float | None:
    """The decimal logarithm of a number's size; None for zero and for what is none."""
    try:
        size = abs(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return math.log10(size) if size and math.isfinite(size) else None


def describe(values: list[Any], anchors: Mapping[str, Any]) -> Field:
    """Profile one field's values."""
    kinds: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    marks: Counter[str] = Counter()
    sample: list[str] = []
    step = 1 + len(values) // CLOSELY
    for at, value in enumerate(values):
        kind = "number" if type(value) is Decimal else kind_of(value)
        if not kind:
            continue
        kinds[kind] += 1
        if at % step:
            continue
        if len(sample) < SAMPLES and kind != "object":
            sample.append(str(value)[:80])
        if kind in ("number", "numeric text"):
            size = magnitude(value)
            marks["zero" if size is None else "negative" if str(value).lstrip()[0] == "-" else "positive"] += 1
            if size is not None:
                sizes[str(round(size * 4))] += 1
        elif kind == "text":
            marks.update(shape(str(value)))
        elif kind == "object":
            marks.update(f"has {printable(name)}" for name in list(value)[:MOST_KEYS])
    known = {key: told for key, value in anchors.items() if (told := anchor(value)) is not None}
    return Field(len(values), sum(kinds.values()), dict(kinds), dict(sizes), dict(marks), known, tuple(sample))


def shape(text: str) -> Iterator[str]:
    """What kind of text it is, in a few marks."""
    yield f"length {len(text).bit_length()}"
    for name, found in (
        ("upper", text.isupper()),
        ("lower", text.islower()),
        ("words", " " in text.strip()),
        ("digits", any(map(str.isdigit, text))),
    ):
        if found:
            yield name


def anchor(value: Any) -> float | str | None:
    """What is remembered of one value: a number's magnitude, a text's digest."""
    kind = kind_of(value)
    if kind in ("number", "numeric text"):
        size = magnitude(value)
        return None if size is None else round(size, 3)
    return f"{crc32(str(value).strip().encode('utf-8', 'surrogatepass')):08x}" if kind in ("text", "address", "time") else None
