"""`kasparro-etl quarantine`: look at what did not validate, try it again, or close it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click

from etl.commands.number import ID
from etl.commands.session import session
from etl.indexes import make_read_indexes
from etl.lease import Counts
from etl.report import one_object
from etl.retry import retry_all
from etl.sources import SOURCES
from etl.stop import on_signals
from etl.table import table
from etl.terminal import attended
from shared.addresses import printable
from shared.db import Json, fetch_one
from sql import queries

SOURCE = click.option("--source", type=click.Choice(list(SOURCES)), help="Only of this source.")
NEXT = ": see `kasparro-etl quarantine list`, close what never will be valid with `kasparro-etl quarantine dismiss ID`"
JSON = click.option("--json", "as_json", is_flag=True, help="One object a line.")


@click.group()
def quarantine() -> None:
    """Look at records that did not validate, and try them again.

    \b
    Examples:
      kasparro-etl quarantine list --source csv
      kasparro-etl quarantine show 17
      kasparro-etl quarantine retry
      kasparro-etl quarantine dismiss 17 --reason "a bad night of theirs"
      kasparro-etl quarantine export > quarantined.ndjson
    """


@quarantine.command("list")
@SOURCE
@click.option("--all", "everything", is_flag=True, help="Resolved entries too.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Newest first.")
@JSON
def list_entries(source: str | None, everything: bool, limit: int, as_json: bool) -> None:
    """List open entries: where, what, why, how often.

    \b
    Example:  kasparro-etl quarantine list --source csv
    """
    with session() as (_, link):
        rows = link.conn.execute(queries["list_quarantined"], {"source": source, "all": everything, "limit": limit}).fetchall()
    if as_json:
        for row in rows:
            click.echo(one_object(row))
        return
    if not rows:
        click.echo("nothing is quarantined", err=True)
        return
    cells = [
        [
            str(row["id"]),
            row["source"],
            row["external_id"] or "-",
            str(row["attempts"]),
            f"{row['last_seen_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
            why(row),
        ]
        for row in rows
    ]
    click.echo(table(["ID", "SOURCE", "RECORD", "SEEN", "LAST SEEN (UTC)", "WHY"], cells, cut=("RECORD", "WHY")))


def reason(field: str, told: str) -> str:
    """One reason with its field, but for a column's mere number."""
    return f"{field}: {told}" if field and not field.isdecimal() else told


def why(row: dict[str, Any]) -> str:
    """Every reason of an entry on one line."""
    told = "; ".join(reason(error["field"], error["reason"]) for error in row["errors"])
    return ("resolved: " if row["resolved_at"] else "") + told


@quarantine.command()
@click.argument("number", metavar="ID", type=ID)
@JSON
def show(number: int, as_json: bool) -> None:
    """Show one entry with the record as upstream sent it.

    \b
    Example:  kasparro-etl quarantine show 1
    """
    with session() as (_, link):
        row = fetch_one(link.conn, queries["get_quarantined"], {"id": number})
    if not row:
        raise click.UsageError(f"there is no entry {number}: see kasparro-etl quarantine list")
    row["record"] = row["record"].decode("utf-8", "backslashreplace")
    if as_json:
        click.echo(one_object(row))
        return
    for name, value in row.items():
        click.echo(f"{name:<14}{why(row) if name == 'errors' else written(value)}")


def written(value: Any) -> str:
    """A value of an entry for a person; a record keeps its lines but for the last end."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return "-" if value is None else str(value).rstrip("\n")


@quarantine.command()
@click.argument("numbers", metavar="[ID]...", nargs=-1, type=ID)
@SOURCE
@JSON
@click.pass_context
def retry(ctx: click.Context, /, numbers: tuple[int, ...], source: str | None, as_json: bool) -> None:
    """Validate entries again with the code of today; what passes is loaded. Exits 3 when some still do not.

    \b
    Example:  kasparro-etl quarantine retry --source csv
    """
    with on_signals() as stop, session() as (_, link):
        told = [(name, retry_all(link.conn, SOURCES[name], stop, numbers)) for name in SOURCES if source in (None, name)]
        make_read_indexes(link.conn, stop)
    for name, counts in told:
        loaded = counts.total - counts.quarantined
        if as_json:
            click.echo(one_object({"source": name, "loaded": loaded, "still_invalid": counts.quarantined}))
        elif counts != Counts():
            click.echo(f"{name}: {loaded} loaded, {counts.quarantined} still invalid{NEXT if counts.quarantined else ''}", err=True)
    if not as_json and all(counts == Counts() for _, counts in told):
        click.echo("nothing was tried: no entry is open, see kasparro-etl quarantine list --all", err=True)
    ctx.exit(3 if any(counts.quarantined for _, counts in told) else 0)


@quarantine.command()
@click.argument("numbers", metavar="ID...", nargs=-1, type=ID, required=True)
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the entry.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def dismiss(numbers: tuple[int, ...], reason: str, yes: bool) -> None:
    """Close entries that will never be valid. The bytes stay; the same ones open the entry again when they come back.

    \b
    Example:  kasparro-etl quarantine dismiss 17 --yes
    """
    if not yes and not attended():
        raise click.UsageError("nobody is there to ask: pass --yes")
    told = list(dict.fromkeys(numbers))
    with session() as (_, link):
        opened = [row["id"] for row in link.conn.execute(queries["list_opened"], {"ids": told}).fetchall()]
        if missing := [number for number in told if number not in opened]:
            named = ", ".join(map(str, missing))
            raise click.UsageError(f"no entry is open under {named}, none was closed: see kasparro-etl quarantine list --all")
        if not yes and not click.confirm(f"{len(told)} of the quarantine are closed without being loaded: go on?", err=True):
            click.echo("nothing was changed", err=True)
            return
        why = "dismissed: " + (printable(reason) or "by hand")
        closed = link.conn.execute(queries["resolve_dismissed"], {"ids": told, "error": Json([{"field": "", "reason": why}])}).rowcount
    click.echo(f"{closed} closed: kasparro-etl quarantine list --all shows why", err=True)


@quarantine.command()
@SOURCE
@click.option("--all", "everything", is_flag=True, help="Resolved entries too.")
def export(source: str | None, everything: bool) -> None:
    """Write entries with their records to stdout, one JSON object a line; bytes that are no UTF-8 as backslash escapes.

    \b
    Example:  kasparro-etl quarantine export > quarantined.ndjson
    """
    with session() as (_, link):
        rows = link.conn.execute(queries["list_quarantined"], {"source": source, "all": everything, "limit": 1_000_000}).fetchall()
        for row in rows:
            entry = fetch_one(link.conn, queries["get_quarantined"], {"id": row["id"]})
            if entry:
                sys.stdout.write(one_object(entry | {"record": entry["record"].decode("utf-8", "backslashreplace")}) + "\n")
