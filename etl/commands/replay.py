"""`kasparro-etl replay`: load again from what is stored, or compare what is served with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import click

from etl.chaos import Chaos
from etl.commands.duration import DURATION
from etl.commands.number import ID
from etl.commands.run import carry_out, named_sources, settle_in
from etl.commands.session import session
from etl.progress import Mode, wants_bar
from etl.replay import Selection, count_pruned, list_stored, replayed
from etl.report import one_object, say
from etl.sources import SOURCES
from etl.stop import Stop, check, on_signals
from etl.verify import Verified, verify
from etl.work import Options, Work
from shared.db import Link, fetch_one
from shared.logs import redactor
from shared.settings import Settings
from sql import queries

NOTHING = "nothing is stored that fits: see kasparro-etl runs list"
SHOWN = 20
"""Differences of a source that a person sees; `--json` prints all of them."""


@click.command(short_help="Load again from the stored payloads, or compare with them.")
@click.option("--source", "names", default="all", callback=named_sources, metavar="all|NAME,..", help="Only of these sources.")
@click.option("--run", "run_id", type=ID, metavar="ID", help="Only what this run fetched or loaded.")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]), help="Only what was loaded since (UTC)."
)
@click.option("--verify", "compare", is_flag=True, help="Write nothing: compare, exit 3 on differences.")
@click.option("--dry-run", is_flag=True, help="Count what would change, write nothing.")
@click.option("--if-locked", type=click.Choice(["fail", "skip", "wait"]), default="fail", help="When a run holds a source.")
@click.option("--deadline", type=DURATION, metavar="10m", help="Stop then at a batch's end, exit 3.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.option("--progress", "mode", type=click.Choice(list(get_args(Mode))), default="auto", help="Progress bar on stderr.")
@click.pass_context
def replay(
    ctx: click.Context, /, names: list[str], compare: bool, deadline: float | None, as_json: bool, mode: Mode, if_locked: str, **told: Any
) -> None:
    """Validate and load stored payloads again with the code of today. Asks no upstream,
    leaves checkpoints alone, never puts an older state over a newer one.

    \b
    Examples:
      kasparro-etl replay --source csv --dry-run
      kasparro-etl replay --since 2026-01-31
      kasparro-etl replay --verify
    """
    settle_in()
    wanted = Selection(told["run_id"], told["since"] and told["since"].replace(tzinfo=UTC))
    with on_signals(deadline=deadline) as stop, session() as (settings, link):
        names = chosen(link, names, wanted, pruned=compare and wanted.whole)
        if compare:
            code = compare_all(link, names, wanted, stop, as_json=as_json)
        else:
            works = [work_of(link, settings, name, wanted, stop, dry_run=told["dry_run"]) for name in names]
            draw = wants_bar(mode) and not as_json
            code = carry_out(works, if_locked, as_json=as_json, quiet=False, draw=draw)
    ctx.exit(code)


def chosen(link: Link, names: list[str], wanted: Selection, *, pruned: bool) -> list[str]:
    """The sources of which something is stored, or was and is `pruned`. Raises UsageError when there is no such run, or nothing fits."""
    if wanted.run_id is not None and not fetch_one(link.conn, queries["get_run"], {"run_id": wanted.run_id}):
        raise click.UsageError(f"there is no run {wanted.run_id}: see kasparro-etl runs list")
    found = [name for name in names if list_stored(link.conn, SOURCES[name], wanted) or (pruned and count_pruned(link.conn, SOURCES[name]))]
    if not found:
        raise click.UsageError(NOTHING)
    return found


def work_of(link: Link, settings: Settings, name: str, wanted: Selection, stop: Stop, *, dry_run: bool) -> Work:
    """The run of a source over its stored payloads: from their start, whatever its checkpoint says."""
    options = Options(settings.etl_batch_size, trigger="replay", full_refresh=True, dry_run=dry_run)
    source = replayed(SOURCES[name], link, wanted)
    return Work(link, source, settings, options, stop, lambda _: None, redactor(settings), Chaos())


def compare_all(link: Link, names: list[str], wanted: Selection, stop: Stop, *, as_json: bool) -> int:
    """Verify source after source and tell of every difference. Returns the exit code."""
    results = list[Verified]()
    for name in names:
        check(stop)
        results.append(verify(link.conn, SOURCES[name], wanted, stop))
        tell(results[-1], as_json=as_json)
    code = 3 if any(result.different for result in results) else 0
    if as_json:
        say(one_object({"type": "summary", "exit_code": code, "sources": [facts(result) for result in results]}))
    return code


def facts(result: Verified) -> dict[str, Any]:
    """How a source compares, as `--json` prints it."""
    names = (
        "source",
        "payloads",
        "pruned",
        "compared",
        "equal",
        "missing",
        "extra",
        "changed",
        "prices_missing",
        "prices_changed",
        "unverified",
    )
    return {name: getattr(result, name) for name in names}


def tell(result: Verified, *, as_json: bool) -> None:
    """Print how a source compares and where it differs."""
    if as_json:
        for row in result.differences:
            say(one_object({"type": "difference", "source": result.source, **row}))
        say(one_object({"type": "verified", **facts(result)}))
        return
    for row in result.differences[:SHOWN]:
        say(f"  {result.source} {line(row)}")
    if len(result.differences) > SHOWN:
        say(f"  {result.source} … {len(result.differences) - SHOWN:,} more lines: pass --json for all of them")
    mark = "✘" if result.different else "!" if result.unverified or result.pruned else "✔"
    say(f"{mark} {result.source:<12}{result.compared:>9,} compared {result.equal:>9,} equal {result.changed:>5,} differ "
        f"{result.missing:>5,} missing {result.extra:>5,} extra {result.prices_missing + result.prices_changed:>5,} prices")  # fmt: skip
    if result.pruned or result.unverified:
        say(f"  {result.unverified:,} rows not verified: what they were read from was pruned ({result.pruned:,}), "
            "was not asked for, or came with a backfill")  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """One difference for a person."""
    at = f" at {row['observed_at']:%Y-%m-%dT%H:%M:%SZ}" if isinstance(row["observed_at"], datetime) else ""
    if row["difference"] == "changed":
        return f"{row['external_id']}{at}: {row['field']}: served {row['served']}, replayed {row['replayed']}"
    return f"{row['external_id']}{at}: {'served, but in no payload' if row['difference'] == 'extra' else 'not served, but in a payload'}"
