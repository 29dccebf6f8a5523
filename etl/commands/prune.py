"""`kasparro-etl prune`: delete raw payloads that are old and needed by nothing, and drop old months of price history."""

from __future__ import annotations

from typing import Any

import click

from etl.commands.duration import DURATION
from etl.commands.session import session
from etl.prune import Month, Pruned, drop_prices, list_old_prices, list_prunable, settle_prices
from etl.prune import prune as prune_source
from etl.report import one_object, say
from etl.stop import on_signals
from etl.terminal import attended
from shared.db import Connection, fetch_one
from shared.errors import SettingsError
from sql import queries

MEGABYTE = 1_000_000


@click.command(short_help="Delete old raw payloads, drop old price history.")
@click.option("--raw-older-than", "raw", type=DURATION, metavar="90d", help="Payloads not loaded for so long: weeks (w), days (d), hours.")
@click.option("--price-history-older-than", "prices", type=DURATION, metavar="730d", help="Whole months that ended so long ago.")
@click.option("--dry-run", is_flag=True, help="Say what would go, delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before price history is dropped.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def prune(raw: float | None, prices: float | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete what is old. Raw payloads that an open quarantine entry or an interrupted run
    needs are kept; rows, runs and what is known of a payload stay. What is gone can not be
    replayed any more, and dropped price history comes back only by a backfill or a replay.

    \b
    Examples:
      kasparro-etl prune --raw-older-than 90d --dry-run
      kasparro-etl prune --price-history-older-than 730d --yes
    """
    if raw is None and prices is None:
        raise click.UsageError("nothing to prune: pass --raw-older-than 90d, --price-history-older-than 730d or both")
    if prices is not None and not (dry_run or yes or attended()):
        raise click.UsageError("nobody is there to ask: pass --yes, or --dry-run")
    payloads, months = list[Pruned](), list[Month]()
    with on_signals() as stop, session() as (_, link):
        if prices is not None and not dry_run:
            require_owner(link.conn)
        if raw is not None:
            found = list_prunable(link.conn, raw)
            payloads = found if dry_run else [whole(one.source, list(prune_source(link.conn, one.source, raw, stop))) for one in found]
            for one in payloads:
                tell({"type": "pruned", "source": one.source, "payloads": one.payloads, "bytes": one.bytes}, dry_run, as_json)
        if prices is not None:
            if not dry_run:
                settle_prices(link.conn, prices)
            months = list_old_prices(link.conn, prices)
            if not (dry_run or not months or yes or click.confirm(question(months), err=True)):
                click.echo("no price history was dropped", err=True)
                months = []
            for month in months if dry_run else drop_prices(link.conn, months, stop):
                tell({"type": "dropped", "month": month.words, "points": month.points, "bytes": month.bytes}, dry_run, as_json)
    if as_json:
        total = {"payloads": sum(one.payloads for one in payloads), "months": len(months)}
        size = sum(one.bytes for one in payloads) + sum(one.bytes for one in months)
        say(one_object({"type": "summary", "exit_code": 0, "dry_run": dry_run, **total, "bytes": size}))
    elif not payloads and not months:
        click.echo("nothing is that old", err=True)


def require_owner(conn: Connection) -> None:
    """Check, before anything goes, that price history is ours to drop. Raises SettingsError."""
    if not (fetch_one(conn, queries["has_prices"]) or {}).get("ours"):
        step = "set it to the address that `kasparro-etl migrate` gets, or pass --dry-run"
        raise SettingsError([f"DATABASE_URL: only the owner of the tables drops price history, {conn.info.user} is not: {step}"])


def question(months: list[Month]) -> str:
    """What is asked before price history goes for good."""
    points, size = sum(month.points or 0 for month in months), sum(month.bytes for month in months) / MEGABYTE
    return f"drop {len(months)} months of price history up to {months[-1].words}, about {points:,} points, {size:,.1f} MB: go on?"


def whole(source: str, parts: list[Pruned]) -> Pruned:
    """The parts of a source added up."""
    return Pruned(source, sum(part.payloads for part in parts), sum(part.bytes for part in parts))


def tell(facts: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    """Say what went."""
    if as_json:
        say(one_object(facts | {"dry_run": dry_run}))
        return
    size, would = f"{facts['bytes'] / MEGABYTE:,.1f} MB", "would be " if dry_run else ""
    if facts["type"] == "pruned":
        say(f"{facts['source']}: {facts['payloads']:,} payloads, {size} {would}deleted")
    else:
        points = "" if facts["points"] is None else f"about {facts['points']:,} points, "
        say(f"price history {facts['month']}: {points}{size} {would}dropped")
