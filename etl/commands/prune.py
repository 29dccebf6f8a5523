"""`kasparro-etl prune`: delete raw payloads that are old and needed by nothing."""

from __future__ import annotations

import click

from etl.commands.duration import DURATION
from etl.commands.session import session
from etl.prune import Pruned, list_prunable
from etl.prune import prune as prune_source
from etl.report import one_object, say
from etl.stop import on_signals

MEGABYTE = 1_000_000


@click.command(short_help="Delete old raw payloads.")
@click.option(
    "--raw-older-than", "age", type=DURATION, required=True, metavar="90d", help="Not loaded for so long: weeks (w), days (d), hours."
)
@click.option("--dry-run", is_flag=True, help="Say what would go, delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def prune(age: float, dry_run: bool, as_json: bool) -> None:
    """Delete raw payloads that are old. What an open quarantine entry or an interrupted run
    needs is kept; rows, prices, runs and what is known of a payload (digest, address,
    time) stay. What is gone can no longer be replayed.

    \b
    Examples:
      kasparro-etl prune --raw-older-than 90d --dry-run
      kasparro-etl prune --raw-older-than 26w
    """
    with on_signals() as stop, session() as (_, link):
        found = list_prunable(link.conn, age)
        gone = found if dry_run else [whole(one.source, list(prune_source(link.conn, one.source, age, stop))) for one in found]
    for one in gone:
        tell(one, "would be deleted" if dry_run else "deleted", as_json=as_json, dry_run=dry_run)
    if as_json:
        total = {"payloads": sum(one.payloads for one in gone), "bytes": sum(one.bytes for one in gone)}
        say(one_object({"type": "summary", "exit_code": 0, "dry_run": dry_run, **total}))
    elif not gone:
        click.echo("nothing is that old", err=True)


def whole(source: str, parts: list[Pruned]) -> Pruned:
    """The parts of a source added up."""
    return Pruned(source, sum(part.payloads for part in parts), sum(part.bytes for part in parts))


def tell(one: Pruned, what: str, *, as_json: bool, dry_run: bool) -> None:
    """Say what went."""
    if as_json:
        say(one_object({"type": "pruned", "source": one.source, "payloads": one.payloads, "bytes": one.bytes, "dry_run": dry_run}))
    else:
        say(f"{one.source}: {one.payloads:,} payloads, {one.bytes / MEGABYTE:,.1f} MB {what}")
