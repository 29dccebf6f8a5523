"""`kasparro-etl run`: the main job."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import click
import structlog

from etl import report
from etl.chaos import Chaos
from etl.commands.duration import DURATION
from etl.commands.session import session
from etl.errors import Locked
from etl.execute import run as run_source
from etl.indexes import make_read_indexes
from etl.ping import pinged
from etl.progress import Mode, progress, wants_bar
from etl.sources import SOURCES
from etl.stop import Stop, on_signals, wait
from etl.work import Options, Outcome, Work
from shared.addresses import printable
from shared.errors import KasparroError
from shared.logs import configure, redactor, wants_console
from shared.settings import Settings, read_settings

log = structlog.get_logger()

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
@click.option("--source", "names", required=True, callback=named_sources, metavar="all|NAME,..", help="What to run.")
@click.option("--full-refresh", is_flag=True, help="Forget the checkpoints, read everything again.")
@click.option("--dry-run", is_flag=True, help="Count what would change, write nothing.")
@click.option("--batch-size", type=click.IntRange(1, 100_000), metavar="N", help="Instead of ETL_BATCH_SIZE.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Records a source; the next goes on.")
@click.option("--deadline", type=DURATION, metavar="10m", help="Stop then at a batch's end, exit 3.")
@click.option("--if-locked", type=click.Choice(["fail", "skip", "wait"]), default="fail", help="When another run holds a source.")
@click.option("--allow-shrink", is_flag=True, help="Accept a list far shorter than usual.")
@click.option("--trigger", type=click.Choice(["cli", "cron"]), default="cli", help="Who asks, as the run records it.")
@click.option("--json", "as_json", is_flag=True, help="Results on stdout, one object a line.")
@click.option("--quiet", is_flag=True, help="Say nothing unless something failed.")
@click.option("--progress", "mode", type=click.Choice(list(get_args(Mode))), default="auto", help="Progress bar on stderr.")
@click.pass_context
def run(
    ctx: click.Context, /, names: list[str], deadline: float | None, as_json: bool, quiet: bool, mode: Mode, if_locked: str, **told: Any
) -> None:
    """Extract, validate and load: what is new since the last run, nothing twice.

    \b
    Examples:
      kasparro-etl run --source all
      kasparro-etl run --source csv,rss --dry-run
      kasparro-etl run --source all --trigger cron --if-locked skip --quiet
    """
    settle_in()
    settings = read_settings()
    if quiet and settings.log_level == "INFO":
        settings = settings.model_copy(update={"log_level": "WARNING"})
    configure(settings)
    with pinged(settings, wanted=not told["dry_run"]) as ping, on_signals(deadline=deadline) as stop, session(settings) as (_, link):
        options = Options(**{**told, "batch_size": told["batch_size"] or settings.etl_batch_size})
        works = [Work(link, SOURCES[name], settings, options, stop, lambda _: None, redactor(settings), Chaos()) for name in names]
        ping.code = carry_out(works, if_locked, as_json=as_json, quiet=quiet, draw=wants_bar(mode) and not (as_json or quiet))
    ctx.exit(ping.code)


def carry_out(works: list[Work], if_locked: str, *, as_json: bool, quiet: bool, draw: bool) -> int:
    """Run the sources, tell of each and of all together, and give the exit code."""
    stop, settings, options, hide = works[0].stop, works[0].settings, works[0].options, works[0].hide
    outcomes = list[Outcome]()
    for outcome in run_all(works, if_locked, draw=draw):
        outcomes.append(outcome)
        skipped = if_locked == "skip" and isinstance(outcome.error, Locked)
        tell(outcome, settings, told_of(outcome, hide), as_json=as_json, quiet=quiet, dry=options.dry_run, skipped=skipped)
    left = [work.source.name for work in works[len(outcomes) :]]
    code = exit_code(outcomes, stop, if_locked, left)
    if as_json:
        runs = [report.facts(outcome, told_of(outcome, hide)) for outcome in outcomes]
        more = {"not_begun": left} if left else {}
        report.say(report.one_object({"type": "summary", "exit_code": code, "runs": runs} | more))
    elif wants_console(settings) and not (quiet and code == 0):
        verb = "replay" if options.trigger == "replay" else "run"
        report.say(report.summary(outcomes, code, left, verb=verb, skip=if_locked == "skip"), err=True)
    elif left:
        log.warning("sources left", sources=left, reason="stopped before their turn: run again to go on")
    if not options.dry_run:
        make_read_indexes(works[0].link.conn, stop)
    return code


def settle_in() -> None:
    """Look for cycles seldom: a batch is tens of thousands of tuples that live for a moment and hold no cycle.

    And let the thread that makes the next batch go on for half a millisecond at a time, not for five: an answer of Postgres waits for it.
    """
    sys.setswitchinterval(0.0005)
    gc.freeze()
    gc.set_threshold(100_000)


def run_all(works: list[Work], if_locked: str, *, draw: bool) -> Iterator[Outcome]:
    """Run the sources one after the other; a failure of one does not keep the others from running, a request to stop does."""
    for work in works:
        if work.stop.asked:
            return
        with progress(work.source.name, draw=draw) as show:
            outcome = run_source(replace(work, show=show))
            while isinstance(outcome.error, Locked) and if_locked == "wait":
                try:
                    wait(work.stop, RETRY_LOCKED)
                except KasparroError:
                    return
                outcome = run_source(replace(work, show=show))
        yield outcome


def told_of(outcome: Outcome, hide: Callable[[str], str]) -> str | None:
    """The error of an outcome as one line without secrets."""
    return printable(hide(str(outcome.error))) if outcome.error else None


def tell(
    outcome: Outcome, settings: Settings, message: str | None, *, as_json: bool, quiet: bool, dry: bool, skipped: bool = False
) -> None:
    """Say how a source came out, once, in the form that whoever listens reads; `skipped`: it was locked, and that is as it was wanted."""
    if as_json:
        report.say(report.one_object({"type": "run", **report.facts(outcome, message)}))
    if quiet and (skipped or report.is_good(outcome)):
        return
    if wants_console(settings):
        report.say(report.skipped(outcome, message) if skipped else report.line(outcome, message, dry=dry), err=True)
    elif skipped:
        log.info("run skipped", source=outcome.source, reason=message)
    else:
        report.log_outcome(outcome, message)


def exit_code(outcomes: list[Outcome], stop: Stop, if_locked: str, left: Sequence[str] = ()) -> int:
    """The code of the whole invocation: a signal, then a bug, then what failed or was `left` undone, then what was locked."""
    if stop.signal is not None:
        return 128 + stop.signal
    if any(outcome.bug for outcome in outcomes):
        return 1
    locked = [outcome for outcome in outcomes if isinstance(outcome.error, Locked)]
    if left or any(outcome.error for outcome in outcomes if outcome not in locked):
        return 3
    if locked and if_locked == "fail":
        return 5 if len(locked) == len(outcomes) else 3
    return 0
