"""`kasparro-etl checkpoints`: where sources stand, and starting one anew."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import click

from etl.commands.session import session
from etl.errors import Locked
from etl.lease import locked_message
from etl.report import one_object
from etl.sources import SOURCES
from etl.table import table
from etl.terminal import attended
from shared.db import fetch_one
from sql import queries

SOURCE = click.Choice(list(SOURCES))
HEAD = ("SOURCE", "RECORDS", "RUN", "MOVED (UTC)", "HELD BY", "POSITION")


@click.group()
def checkpoints() -> None:
    """Show where sources stand, or let one start anew.

    \b
    Examples:
      kasparro-etl checkpoints show
      kasparro-etl checkpoints reset --source csv --yes
    """


@checkpoints.command()
@click.option("--source", type=SOURCE, help="Only of this source.")
@click.option("--json", "as_json", is_flag=True, help="One object a line, the position whole.")
def show(source: str | None, as_json: bool) -> None:
    """Show every source's position, the records its runs have read, those read again too, and
    its last run. Replays and backfills leave all of it as it is.

    \b
    Example:  kasparro-etl checkpoints show --source coingecko --json
    """
    with session() as (_, link):
        rows = link.conn.execute(queries["list_checkpoints"], {"source": source}).fetchall()
    if as_json:
        for row in rows:
            click.echo(one_object(row))
        return
    if not rows:
        click.echo("no source has run yet: kasparro-etl run --source all", err=True)
        return
    click.echo(table(HEAD, [cells(row) for row in rows], cut=("HELD BY", "POSITION")))


def cells(row: dict[str, Any]) -> list[str]:
    """One checkpoint as a line of the table."""
    moved = f"{row['updated_at'].astimezone(UTC):%Y-%m-%d %H:%M}"
    return [row["source"], f"{row['records_total']:,}", str(row["run_id"] or "-"), moved, row["held_by"] or "-", told(row["position"])]


def told(position: dict[str, Any]) -> str:
    """A position in a few words."""
    waiting = position.get("pending")
    if waiting:
        return f"at record {waiting['next'] + 1} of {waiting['url']}"
    cursor = position.get("cursor") or {}
    return ", ".join(part_of(name, value) for name, value in cursor.items()) if cursor else "at the start"


def part_of(name: str, value: Any) -> str:
    """One part of a source's own position: of several files or feeds, how many; `--json` has all of it."""
    if isinstance(value, dict):
        return f"{len(value)} {name if len(value) != 1 else name.removesuffix('s')}: {', '.join(value)}"
    return f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


@checkpoints.command()
@click.option("--source", type=SOURCE, required=True, help="Which source.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(source: str, yes: bool) -> None:
    """Let the next run read a source from its start. What is loaded stays, nothing is doubled.
    Refused while a run holds the source.

    \b
    Example:  kasparro-etl checkpoints reset --source csv --yes
    """
    if not yes and not attended():
        raise click.UsageError("nobody is there to ask: pass --yes")
    with session() as (_, link):
        if not yes and not click.confirm(f"the next run reads all of {source} again, nothing is lost: go on?", err=True):
            click.echo("nothing was changed", err=True)
            return
        if fetch_one(link.conn, queries["forget_position"], {"source": source}):
            click.echo(f"{source} starts anew: kasparro-etl run --source {source}", err=True)
        elif fetch_one(link.conn, queries["get_position"], {"source": source}):
            raise Locked(locked_message(link.conn, source).replace(", or pass --if-locked=wait", ""))
        else:
            click.echo(f"{source} has not run yet: it starts at its start", err=True)
