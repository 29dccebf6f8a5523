"""The CSV source: files of many dialects, read in blocks of lines, only what is new."""

from __future__ import annotations

from etl.source import Source
from etl.sources.csv_files.columns import FIELDS
from etl.sources.csv_files.reading import extract
from etl.sources.csv_files.record import RECORD, identify, normalize
from etl.sources.csv_files.rows import excerpts, parse
from etl.sources.csv_files.shape import SHAPE

__all__ = ["FIELDS", "SOURCE"]

SOURCE = Source(
    name="csv",
    type="csv",
    record=RECORD,
    extract=extract,
    parse=parse,
    normalize=normalize,
    identify=identify,
    excerpts=excerpts,
    reads_from=lambda settings: list(settings.csv_paths),
    rate_limit=lambda settings: None,
    shape=SHAPE,
)
