"""Validation: parsed values in, accepted rows and rejected records with every reason out. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from etl.source import Row, Source, Unreadable

SLICE = 1000
"""Records pydantic checks in one call: few enough to stay in the processor's cache, many enough to hide the call."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is not loaded: its place in the payload, every reason as {"field", "reason"}, whose it is if that can be told."""

    position: int
    errors: tuple[dict[str, str], ...]
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Validated:
    """A batch after validation: positions and rows side by side, and what was rejected."""

    accepted: list[tuple[int, Row]]
    rejected: list[Rejected]


class NoneOnError:
    """Make an invalid item None instead of an error, so that one call checks a whole slice."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


@lru_cache(maxsize=64)
def adapters(record: Any) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    """The validators of a record type: of a slice, and of one record for its reasons."""
    return TypeAdapter(list[Annotated[record, NoneOnError()]]), TypeAdapter(record)


def validate(source: Source, values: Sequence[Any], first: int) -> Validated:
    """Check the values of a batch whose first record stands at position `first` of its payload."""
    slices, single = adapters(source.record)
    accepted: list[tuple[int, Row]] = []
    rejected: list[Rejected] = []
    normalize = source.normalize
    for start in range(0, len(values), SLICE):
        part = values[start : start + SLICE]
        for position, record in enumerate(slices.validate_python(part), first + start):
            if record is not None:
                accepted.append((position, normalize(record)))
            else:
                value = values[position - first]
                rejected.append(Rejected(position, reasons(single, value), known_id(source, value)))
    return Validated(accepted, rejected)


def reasons(single: TypeAdapter[Any], value: Any) -> tuple[dict[str, str], ...]:
    """Validate one value again, alone, for all that is wrong with it."""
    if isinstance(value, Unreadable):
        return ({"field": "", "reason": value.reason},)
    try:
        single.validate_python(value)
    except ValidationError as invalid:
        return tuple(unique(describe(error) for error in invalid.errors(include_input=False, include_url=False)))
    raise AssertionError("a record was refused in its slice and accepted alone")


def known_id(source: Source, value: Any) -> str | None:
    """The external id of a value that did not validate, when it shows one that a table can hold."""
    found = None if isinstance(value, Unreadable) else source.identify(value)
    return found if isinstance(found, str) and found.isprintable() and 0 < len(found) <= 500 else None


def describe(error: Any) -> dict[str, str]:
    """One pydantic error as field and reason, without the value."""
    return {"field": ".".join(str(part) for part in error["loc"]), "reason": str(error["msg"]).removeprefix("Value error, ")}


def unique(items: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Drop repeated reasons, order kept."""
    found: list[dict[str, str]] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found
