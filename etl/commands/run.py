"""`kasparro-etl run`: the main job."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any, get_args

import click

from etl import report
from etl.chaos import Chaos
from etl.commands.session import session
from etl.errors import Locked
from etl.execute import run as run_source
from etl.progress import Mode, progress, wants_bar
from etl.sources import SOURCES
from etl.stop import Stop, on_signals, wait
from etl.work import Options, Outcome, Work
from shared.addresses import printable
from shared.db import Link
from shared.errors import KasparroError
from shared.logs import redactor, wants_console
from shared.settings import Settings

RETRY_LOCKED = 1.0
"""Seconds between two looks at a source that --if-locked=wait waits for."""


def named_sources(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    """Read `all` or a comma-separated list of sources, in the registry's order."""
    names = list(SOURCES) if value == "all" else [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in SOURCES]
    if unknown or not names:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'} is not a source: choose all or some of {', '.join(SOURCES)}")
    return [name for name in SOURCES if name in names]


@click.command(short_help="Load what is new, from some or all sources.")
@click.option("--source", "names", required=True, callback=named_sources, metavar="all|NAME[,NAME]", help="What to run.")
@click.option("--full-refresh", is_flag=True, help="Forget the checkpoints and read everything again.")
@click.option("--dry-run", is_flag=True, help="Extract and validate, count what would change, write nothing.")
@click.option("--batch-size", type=click.IntRange(1, 100_000), help="Records a transaction at the most  [ETL_BATCH_SIZE].")
@click.option("--limit", type=click.IntRange(1), help="Stop after this many records a source; the next run goes on there.")
@click.option(
    "--if-locked", type=click.Choice(["fail", "skip", "wait"]), default="fail", show_default=True, help="When another run holds a source."
)
@click.option("--allow-shrink", is_flag=True, help="Accept a list far shorter than usual.")
@click.option("--trigger", type=click.Choice(["cli", "cron"]), default="cli", show_default=True, help="Who asks, as the run records it.")
@click.option("--json", "as_json", is_flag=True, help="Results on stdout, one object a line.")
@click.option("--quiet", is_flag=True, help="Say nothing unless something failed.")
@click.option(
    "--progress", "mode", type=click.Choice(list(get_args(Mode))), default="auto", show_default=True, help="Progress bar on stderr."
)
@click.pass_context
def run(ctx: click.Context, /, names: list[str], as_json: bool, quiet: bool, mode: Mode, if_locked: str, **told: Any) -> None:
    """Extract, validate and load: what is new since the last run, nothing twice.

    \b
    Examples:
      kasparro-etl run --source all
      kasparro-etl run --source csv,rss --dry-run
      kasparro-etl run --source coingecko --limit 500 --json
    """
    spare_the_collector()
    with on_signals() as stop, session() as (settings, link):
        options = Options(**{**told, "batch_size": told["batch_size"] or settings.etl_batch_size})
        hide, outcomes = redactor(settings), list[Outcome]()
        for outcome in run_all(link, settings, options, names, stop, if_locked, draw=wants_bar(mode) and not (as_json or quiet)):
            outcomes.append(outcome)
            tell(outcome, settings, told_of(outcome, hide), as_json=as_json, quiet=quiet, dry=options.dry_run)
        code = exit_code(outcomes, stop, if_locked)
        if as_json:
            runs = [report.facts(outcome, told_of(outcome, hide)) for outcome in outcomes]
            report.say(report.one_object({"type": "summary", "exit_code": code, "runs": runs}))
        elif wants_console(settings) and not (quiet and code == 0):
            report.say(report.summary(outcomes, code), err=True)
    ctx.exit(code)


def spare_the_collector() -> None:
    """Look for cycles seldom: a batch is tens of thousands of tuples that live for a moment and hold no cycle."""
    gc.freeze()
    gc.set_threshold(100_000)


def run_all(
    link: Link, settings: Settings, options: Options, names: list[str], stop: Stop, if_locked: str, *, draw: bool
) -> Iterator[Outcome]:
    """Run the sources one after the other; a failure of one does not keep the others from running, a request to stop does."""
    for name in names:
        if stop.asked.is_set():
            return
        with progress(name, draw=draw) as show:
            work = Work(link, SOURCES[name], settings, options, stop, show, redactor(settings), Chaos())
            outcome = run_source(work)
            while isinstance(outcome.error, Locked) and if_locked == "wait":
                try:
                    wait(stop, RETRY_LOCKED)
                except KasparroError:
                    return
                outcome = run_source(work)
        yield outcome


def told_of(outcome: Outcome, hide: Callable[[str], str]) -> str | None:
    """The error of an outcome as one line without secrets."""
    return printable(hide(str(outcome.error))) if outcome.error else None


def tell(outcome: Outcome, settings: Settings, message: str | None, *, as_json: bool, quiet: bool, dry: bool) -> None:
    """Say how a source came out, once, in the form that whoever listens reads."""
    if as_json:
        report.say(report.one_object({"type": "run", **report.facts(outcome, message)}))
    if quiet and report.is_good(outcome):
        return
    if wants_console(settings):
        report.say(report.line(outcome, message, dry=dry), err=True)
    else:
        report.log_outcome(outcome, message)


def exit_code(outcomes: list[Outcome], stop: Stop, if_locked: str) -> int:
    """The code of the whole invocation: a signal, then a bug, then what failed, then what was locked."""
    if stop.signal is not None:
        return 128 + stop.signal
    if any(outcome.bug for outcome in outcomes):
        return 1
    locked = [outcome for outcome in outcomes if isinstance(outcome.error, Locked)]
    if any(outcome.error for outcome in outcomes if outcome not in locked):
        return 3
    if locked and if_locked == "fail":
        return 5 if len(locked) == len(outcomes) else 3
    return 0
