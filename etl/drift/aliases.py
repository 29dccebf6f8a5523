"""Accepted renames at work: values are put where the source expects them, from the start of a run on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from etl.drift.store import list_aliases
from etl.source import Alias, Payload, Source
from shared.db import Connection


def aliased(conn: Connection, source: Source) -> Source:
    """The source with the renames that were accepted for it by now.

    Those that were taken back count for the payloads that were loaded under them. A source with ways of its own keeps what an alias told
    with the payload.
    """
    aliases = list_aliases(conn, source.name)
    if not aliases:
        return source
    if source.shape.rename:
        return source.shape.rename(source, [alias for alias in aliases if alias.until is None])
    return rename_values(source, aliases)


def rename_values(source: Source, aliases: Sequence[Alias]) -> Source:
    """The source whose parsed values have renamed fields moved to where they used to be."""

    def parse(payload: Payload) -> Iterator[Any]:
        stream = source.shape.stream(payload)
        counting = [alias for alias in aliases if alias.stream == stream and alias.counts(payload.loaded_at)]
        ours = [(alias.upstream.split("."), alias.field.split(".")) for alias in counting]
        for value in source.parse(payload):
            yield move_all(value, ours) if isinstance(value, dict) else value

    return replace(source, parse=parse)


def move_all(value: dict[str, Any], moves: Sequence[tuple[list[str], list[str]]]) -> dict[str, Any]:
    """A value with fields moved. A field that is still filled where it used to be is left alone. Objects on the way are copied."""
    for path, to in sorted(moves, key=lambda one: len(one[0])):
        found = look_up(value, path)
        if found is not None and look_up(value, to) is None:
            value = put(without(value, path), to, found)
    return value


def look_up(value: Any, path: Sequence[str]) -> Any:
    """What is at a path, None when nothing is."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def without(value: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """A copy without what is at a path."""
    name, *rest = path
    return {key: without(inside, rest) if key == name and rest else inside for key, inside in value.items() if key != name or rest}


def put(value: dict[str, Any], path: Sequence[str], found: Any) -> dict[str, Any]:
    """A copy with something at a path."""
    name, *rest = path
    inside = value.get(name)
    return {**value, name: put(inside if isinstance(inside, dict) else {}, rest, found) if rest else found}
