"""`kasparro-etl runs`: what ran, one run in full, two runs side by side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import click

from etl.commands.number import ID
from etl.commands.session import session
from etl.report import one_object
from etl.sources import SOURCES
from etl.table import table
from shared.anomalies import COMPARED, LAST, difference, find_anomalies
from shared.db import Connection, fetch_one
from shared.model import RunStatus
from sql import queries

JSON = click.option("--json", "as_json", is_flag=True, help="One object a line.")
HEAD = ("ID", "SOURCE", "STATUS", "STARTED (UTC)", "SECONDS", "SEEN", "NEW", "UPDATED", "SAME", "QUAR", "TRIGGER", "ERROR")
NAMES = ("id", "pid", "resumed_from", "resumed_by")
"""Numbers that count nothing."""
SPARE = ("TRIGGER", "SAME", "SECONDS", "UPDATED")
COUNTS = ("records_extracted", "records_inserted", "records_updated", "records_unchanged", "records_quarantined")
BATCHES = 20
"""Batches of a run that are shown; `--json` has as many as --batches asks for."""
BEGINS = 200
"""Bytes of a payload that are shown."""
UNKNOWN = "there is no run {}: see kasparro-etl runs list"


@click.group()
def runs() -> None:
    """List runs, show one, compare two.

    \b
    Examples:
      kasparro-etl runs list --source csv --status failed
      kasparro-etl runs show 1
      kasparro-etl runs compare 1 2
    """


@runs.command("list")
@click.option("--source", type=click.Choice(list(SOURCES)), help="Only of this source.")
@click.option("--status", type=click.Choice(list(get_args(RunStatus))), metavar="STATUS", help="Only success, partial, failed …")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, metavar="N", help="Newest first; 20 without it.")
@JSON
def list_runs(source: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first. QUAR counts records; those of a payload set aside as a whole are one entry of `quarantine list`.

    \b
    Example:  kasparro-etl runs list --status failed --limit 5
    """
    wanted = {"source": source, "status": status, "before": None, "more": limit}
    with session() as (_, link):
        rows = link.conn.execute(queries["list_runs"], wanted).fetchall()
    if as_json:
        for row in rows:
            click.echo(one_object(row))
        return
    if not rows:
        told = "no run fits" if source or status else "nothing has run yet: kasparro-etl run --source all"
        click.echo(told, err=True)
        return
    click.echo(table(HEAD, [cells(row) for row in rows], cut=("ERROR",), spare=SPARE))


def cells(row: dict[str, Any]) -> list[str]:
    """One run as a line of the table."""
    counts = [f"{row[name]:,}" for name in COUNTS]
    seconds = f"{row['duration_seconds']:.1f}" if row["duration_seconds"] is not None else "-"
    return [
        str(row["id"]),
        row["source"],
        row["status"],
        f"{row['started_at'].astimezone(UTC):%Y-%m-%d %H:%M}" if row["started_at"] else "-",
        seconds,
        *counts,
        row["trigger"],
        row["error_message"] or "-",
    ]


def moment(at: datetime | None) -> str:
    """A time to the second, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else "-"


@runs.command()
@click.argument("number", metavar="ID", type=ID)
@click.option(
    "--batches", "shown", type=click.IntRange(0, 100_000), default=BATCHES, metavar="N", help="Newest batches to show; 20 without it."
)
@JSON
def show(number: int, shown: int, as_json: bool) -> None:
    """Show one run: counts, errors, what it continued, its batches.

    \b
    Example:  kasparro-etl runs show 1
    """
    with session() as (_, link):
        row = fetch_one(link.conn, queries["get_run_facts"], {"run_id": number})
        found = link.conn.execute(queries["list_batches_of_run"], {"run_id": number, "limit": shown}).fetchall()
        payload = fetch_one(link.conn, queries["get_run_payload"], {"run_id": number, "head": BEGINS})
    if not row:
        raise click.UsageError(UNKNOWN.format(number))
    if as_json:
        kept = payload and payload | {"head": payload["head"].decode("utf-8", "replace")}
        click.echo(one_object({**row, "latest_batches": found, "payload": kept}))
        return
    for name, value in row.items():
        if value is not None:
            click.echo(f"{name:<20} {value if name in NAMES else written(value)}")
    if payload:
        click.echo(f"\npayload {told_payload(row, payload)}")
    if found:
        head = ("BATCH", "COMMITTED", "PAYLOAD", "RECORDS", "NEW", "UPDATED", "SAME", "QUAR", "FROM")
        click.echo("\n" + table(head, [batch(one) for one in found], cut=("FROM",), spare=("PAYLOAD", "SAME"), ends=("FROM",)))


def told_payload(row: dict[str, Any], payload: dict[str, Any]) -> str:
    """The newest payload that a run was the first to keep, with how it begins; a refused one is kept and not loaded."""
    state = "refused, kept and not loaded" if row["status"] == "refused" else "the newest that this run kept"
    begins = "".join(sign if sign.isprintable() else " " for sign in payload["head"].decode("utf-8", "replace"))
    lines = [f"{payload['id']} ({state}), {payload['bytes']:,} bytes, fetched {moment(payload['fetched_at'])}"]
    return "\n  ".join([*lines, f"from    {payload['url']}", f"sha256  {payload['sha256']}", f"begins  {begins}"])


def written(value: Any) -> str:
    """A value of a run for a person."""
    if isinstance(value, datetime):
        return moment(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def batch(row: dict[str, Any]) -> list[str]:
    """One batch as a line of the table."""
    counts = [f"{row[name]:,}" for name in ("inserted", "updated", "unchanged", "quarantined")]
    place = f"{row['first_position'] + 1}-{row['next_position']}" if row["next_position"] > row["first_position"] else "none"
    source = "-" if row["url"] is None else f"{row['url']}{' (pruned)' if row['pruned'] else ''}"
    return [str(row["seq"]), f"{row['committed_at'].astimezone(UTC):%H:%M:%S}", str(row["raw_id"]), place, *counts, source]


@runs.command()
@click.argument("first", metavar="A", type=ID)
@click.argument("second", metavar="B", type=ID)
@JSON
def compare(first: int, second: int, as_json: bool) -> None:
    """Compare two runs: every count and the time they took, and what is unusual about either.

    \b
    Example:  kasparro-etl runs compare 1 2
    """
    with session() as (_, link):
        found = {row["id"]: row for row in link.conn.execute(queries["list_runs_by_id"], {"ids": [first, second]}).fetchall()}
        for number in (first, second):
            if number not in found:
                raise click.UsageError(UNKNOWN.format(number))
        pair = found[first], found[second]
        anomalies = [told for row in pair if row["finished_at"] for told in find_anomalies(row, usual(link.conn, row))]
    differences = {name: difference(pair[0][name], pair[1][name]) for name in COMPARED}
    if as_json:
        told = [{name: getattr(one, name) for name in one.__slots__} for one in anomalies]
        click.echo(one_object({"a": pair[0], "b": pair[1], "differences": differences, "anomalies": told}))
        return
    lines = [
        [name, figure(pair[0][name]), figure(pair[1][name]), signed(gap["absolute"]), signed(gap["percent"], "%")]
        for name, gap in differences.items()
    ]
    click.echo(table((f"{pair[0]['source']}, {pair[1]['source']}", f"RUN {first}", f"RUN {second}", "MORE", "PER CENT"), lines))
    for anomaly in anomalies:
        click.echo(f"! run {anomaly.run_id}: {anomaly.message}")


def usual(conn: Connection, row: dict[str, Any]) -> dict[str, Any]:
    """What runs of the same source before this one were like."""
    wanted = {"source": row["source"], "run_id": row["id"], "trigger": row["trigger"], "last": LAST}
    return fetch_one(conn, queries["get_usual_run"], wanted) or {}


def figure(value: float | None) -> str:
    """A count, or seconds."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def signed(value: float | None, unit: str = "") -> str:
    """A difference with its sign."""
    return "-" if value is None else f"{value:+,g}{unit}"
