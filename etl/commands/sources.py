"""`kasparro-etl sources`: what can be read, from where, and how fast."""

from __future__ import annotations

from typing import Any

import click

from etl.report import one_object
from etl.source import Source
from etl.sources import SOURCES
from etl.table import table
from shared.settings import Settings, read_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def sources(as_json: bool) -> None:
    """List the sources: name, type, where they read from, rate limit.

    \b
    Example:  kasparro-etl sources --json
    """
    settings = read_settings()
    if as_json:
        for source in SOURCES.values():
            click.echo(one_object(facts(source, settings)))
        return
    rows = [[s.name, s.type, str(s.rate_limit(settings) or "-"), ", ".join(s.reads_from(settings))] for s in SOURCES.values()]
    click.echo(table(["SOURCE", "TYPE", "RATE", "READS FROM"], rows, cut=("READS FROM",)))


def facts(source: Source, settings: Settings) -> dict[str, Any]:
    """One source as `--json` prints it."""
    limit = source.rate_limit(settings)
    budget = {"calls": limit.calls, "seconds": limit.seconds} if limit else None
    return {"source": source.name, "type": source.type, "reads_from": source.reads_from(settings), "rate_limit": budget}
