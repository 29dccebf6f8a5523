"""`kasparro-etl status`: a line a source; exit 3 when something is late or broken."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import click

from etl.commands.session import session
from etl.report import one_object
from etl.sources import SOURCES
from etl.table import table
from shared.settings import Settings
from shared.states import TROUBLE, state_of
from sql import queries

HEAD = ("SOURCE", "STATE", "LAST SUCCESS (UTC)", "LAG", "ROWS", "QUARANTINED", "DRIFT", "LOCK")


@click.command()
@click.option("--source", type=click.Choice(list(SOURCES)), help="Only this source, for its line and for the exit code.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.pass_context
def status(ctx: click.Context, /, source: str | None, as_json: bool) -> None:
    """Show how every source stands. Exits 3 when one is late or broken, so it can serve as a probe.

    ROWS are those that /data serves. A source is late when its last success is more than two intervals (ETL_INTERVAL_MINUTES) ago.

    \b
    Examples:
      kasparro-etl status
      kasparro-etl status --source csv --json
    """
    with session() as (settings, link):
        wanted = {"sources": [source] if source else list(SOURCES)}
        served = {row["source"]: row["records"] for row in link.conn.execute(queries["list_served"]).fetchall()}
        found = link.conn.execute(queries["list_source_status"], wanted).fetchall()
        rows = [told(row | {"rows_total": served.get(row["source"], 0)}, settings) for row in found]
    if as_json:
        for row in rows:
            click.echo(one_object(row))
    else:
        click.echo(table(HEAD, [cells(row) for row in rows], cut=("LOCK",), spare=("LAST SUCCESS (UTC)",)))
        for row in rows:
            if row["state"] in ("failed", "refused", "stalled") and row["last_error"]:
                click.echo(f"{row['source']}: {row['last_error']}", err=True)
    ctx.exit(3 if any(row["state"] in TROUBLE for row in rows) else 0)


def told(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One source's status with its state in one word."""
    word = state_of(row["last_status"], row["lease_expired"], row["lag_seconds"], settings.etl_interval_minutes)
    return {"source": row["source"], "state": word, **{name: value for name, value in row.items() if name != "source"}}


def cells(row: dict[str, Any]) -> list[str]:
    """One source's status as a line of the table."""
    when = row["last_success_at"]
    counts = [f"{row[name] or 0:,}" for name in ("rows_total", "quarantined", "drift")]
    return [
        row["source"],
        row["state"],
        f"{when.astimezone(UTC):%Y-%m-%d %H:%M}" if when else "never",
        age(row["lag_seconds"]),
        *counts,
        row["locked_by"] or "-",
    ]


def age(seconds: float | None) -> str:
    """A length of time in its two largest units."""
    if seconds is None:
        return "-"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
