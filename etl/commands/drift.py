"""`kasparro-etl drift`: what changed in upstreams' fields, and what is right about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import click

from etl.commands.number import ID
from etl.commands.session import session
from etl.drift.store import accept as accept_drift
from etl.drift.store import dismiss as dismiss_drift
from etl.drift.store import undo as undo_drift
from etl.errors import SourceError
from etl.report import one_object
from etl.sources import SOURCES
from etl.table import table
from shared.db import Connection
from sql import queries

NUMBERS = click.argument("numbers", metavar="ID...", nargs=-1, type=ID, required=True)
WARNING = "accepting it makes no record valid: `kasparro-etl run --source {} --dry-run` counts those that are not"
HEAD = ("ID", "SOURCE", "FIELD", "CHANGE", "LOOKS LIKE", "CONFIDENCE", "LAST SEEN (UTC)", "WHAT IS SENT")

NEXT = {
    "renamed": "renamed: kasparro-etl drift accept {id}, when the new name means the same",
    "retyped": "retyped: look at what is sent; accept {id} only stops the telling, records that do not validate still do not",
    "missing": "missing: closes itself when the field is back; gone for good: kasparro-etl drift accept {id}",
    "added": "added: nothing is to be done; kasparro-etl drift accept {id} ends the telling",
}
"""What can be done about an open change, by its kind."""


@click.group()
def drift() -> None:
    """Look at changes of upstreams' fields, and accept those that are right.

    \b
    Examples:
      kasparro-etl drift list --source coinpaprika
      kasparro-etl drift accept 17
      kasparro-etl drift dismiss 18
      kasparro-etl drift undo 17
    """


@drift.command("list")
@click.option("--source", type=click.Choice(list(SOURCES)), help="Only of this source.")
@click.option("--all", "everything", is_flag=True, help="Those that were accepted or have ended, too.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Newest first.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_drift(source: str | None, everything: bool, limit: int, as_json: bool) -> None:
    """List open changes: which field, what became of it, what it may be called now.

    \b
    Example:  kasparro-etl drift list --source coinpaprika
    """
    with session() as (_, link):
        rows = link.conn.execute(queries["list_drift"], {"source": source, "all": everything, "limit": limit}).fetchall()
    if as_json:
        for row in rows:
            click.echo(one_object(row))
        return
    if not rows:
        click.echo("no field has changed", err=True)
        return
    click.echo(table(HEAD, [cells(row) for row in rows], cut=HEAD[-1:], spare=("CONFIDENCE", "LOOKS LIKE")))
    opened = {row["change"]: row["id"] for row in rows if not (row["accepted_at"] or row["resolved_at"])}
    for change, told in NEXT.items():
        if change in opened:
            click.echo(told.format(id=opened[change]), err=True)


def cells(row: dict[str, Any]) -> list[str]:
    """One change as a line of the table."""
    state = "accepted" if row["accepted_at"] else "ended" if row["resolved_at"] else ""
    told = "; ".join(part for part in (state, row["note"] or "", (row["sample"] or "")[:60]) if part)
    return [
        str(row["id"]),
        row["source"] + (f" {row['stream']}" if row["stream"] else ""),
        row["field"],
        row["change"],
        row["suggested_field"] or "-",
        f"{row['confidence']:.2f}" if row["confidence"] is not None else "-",
        f"{row['last_seen_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
        told or "-",
    ]


@drift.command()
@NUMBERS
@click.option("--force", is_flag=True, help="Accept a change of magnitude, too.")
def accept(numbers: tuple[int, ...], force: bool) -> None:
    """Accept changes, from the next run on: a renamed field is read under its new name, any other change becomes the usual.

    \b
    Example:  kasparro-etl drift accept 17
    """
    with session() as (_, link):
        for number in numbers:
            row = decided(accept_drift, link.conn, number, force=force)
            click.echo(f"{row['source']}: {said(row)} from the next run on; kasparro-etl drift undo {number} takes it back", err=True)
            if row["relied"] and row["change"] in ("retyped", "missing"):
                click.echo(f"{row['field']} is a field that is loaded: {WARNING.format(row['source'])}", err=True)


def decided(decide: Callable[..., dict[str, Any]], conn: Connection, number: int, **told: bool) -> dict[str, Any]:
    """Take a decision. Raises UsageError when there is nothing to decide, or not so."""
    try:
        return decide(conn, number, **told)
    except SourceError as error:
        raise click.UsageError(str(error)) from None


def said(row: dict[str, Any]) -> str:
    """What accepting a change does."""
    if row["change"] == "renamed":
        return f"{row['suggested_field']} is read as {row['field']}"
    return f"{row['field']} is usual as {row['change']}"


@drift.command()
@NUMBERS
def dismiss(numbers: tuple[int, ...]) -> None:
    """Close changes without accepting them: nothing is read otherwise. One that a run sees again is told again.

    A change whose field a good run finds as before is closed by itself.

    \b
    Example:  kasparro-etl drift dismiss 18
    """
    with session() as (_, link):
        for number in numbers:
            row = decided(dismiss_drift, link.conn, number)
            click.echo(
                f"{row['source']}: {row['field']} {row['change']} is closed; kasparro-etl drift undo {number} opens it again", err=True
            )


@drift.command()
@NUMBERS
def undo(numbers: tuple[int, ...]) -> None:
    """Take decisions back, from the next run on: a change that was accepted or closed is open again.

    \b
    Example:  kasparro-etl drift undo 17
    """
    with session() as (_, link):
        for number in numbers:
            row = decided(undo_drift, link.conn, number)
            click.echo(f"{row['source']}: {row['field']} {row['change']} is open again", err=True)
