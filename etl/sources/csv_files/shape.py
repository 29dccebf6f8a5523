"""How drift sees CSV files: a stream is the files whose paths differ in digits only, a field is a header cell. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from etl.source import Alias, Payload, Shape, Source
from etl.sources.csv_files.amounts import read_cell
from etl.sources.csv_files.columns import IDENTITY
from etl.sources.csv_files.reading import extract, names_of, stream_of
from etl.sources.csv_files.rows import parse
from shared.excerpts import open_lines, open_reader


def stream(payload: Payload) -> str:
    """Name the stream of a block."""
    return stream_of(str(payload.meta["path"]))


def fields(payload: Payload, head: Sequence[Any]) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    """Give the first rows of a block under its header, amounts as plain digits, with what names each asset."""
    header, columns = payload.meta["header"], payload.meta["columns"]
    identity = [columns[name] for name in IDENTITY if name in columns]
    comma = payload.meta["decimal"] == ","
    reader = open_reader(open_lines(payload.body, payload.meta), payload.meta["delimiter"])
    try:
        for row in islice(reader, len(head)):
            key = next((row[at] for at in identity if at < len(row) and row[at]), None)
            yield key, {name: read_cell(cell, comma) for name, cell in zip(header, row, strict=False) if name}
    except csv.Error:  # a broken quote: what was read so far is enough
        return


def roles(payload: Payload) -> dict[str, str]:
    """The header cells we rely on and the fields they hold."""
    header = payload.meta["header"]
    return {header[at]: name for name, at in payload.meta["columns"].items() if at < len(header) and header[at]}


def rename(source: Source, aliases: Sequence[Alias]) -> Source:
    """The source that takes the header cells of accepted renames for the fields they are; a column that has the field already stays."""

    def parse_renamed(payload: Payload) -> Iterator[Any]:
        names, columns = names_of(str(payload.meta["path"]), aliases), payload.meta["columns"]
        found = {name: payload.meta["header"].index(cell) for cell, name in names.items() if cell in payload.meta["header"]}
        return parse(replace(payload, meta={**payload.meta, "columns": {**found, **columns}}))

    def fields_renamed(payload: Payload, head: Sequence[Any]) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
        ours = {alias.upstream: alias.field for alias in aliases if alias.stream == stream(payload)}
        for key, record in fields(payload, head):
            yield key, {ours.get(name, name): value for name, value in record.items() if ours.get(name) not in record}

    def roles_renamed(payload: Payload) -> dict[str, str]:
        ours = {alias.upstream: alias.field for alias in aliases if alias.stream == stream(payload)}
        return {ours.get(name, name): role for name, role in roles(payload).items()}

    shape = replace(SHAPE, fields=fields_renamed, roles=roles_renamed)
    return replace(source, extract=partial(extract, aliases=aliases), parse=parse_renamed, shape=shape)


SHAPE = Shape(stream=stream, fields=fields, roles=roles, required=frozenset({"price"}), rename=rename)
