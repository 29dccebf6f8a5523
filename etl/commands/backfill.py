"""`kasparro-etl backfill`: the history of a past range, or of files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import click
import structlog

from etl import report
from etl.backfill.begin import HISTORIES, begin_file, begin_range, plan_range
from etl.backfill.execute import run as work_off
from etl.backfill.files import Survey, survey
from etl.backfill.history import STEPS
from etl.backfill.ranges import MOST_CHUNKS, Range
from etl.backfill.show import finished, show_files, show_range
from etl.backfill.store import Tally, get_tally, reopen_chunks
from etl.backfill.work import FileJob, RangeJob, Work
from etl.commands.run import exit_code, settle_in, tell, told_of
from etl.commands.session import session
from etl.errors import SourceError
from etl.indexes import make_read_indexes
from etl.progress import Mode, progress, wants_bar
from etl.sources.csv_files.files import find_files
from etl.stop import Stop, on_signals
from etl.work import Outcome
from shared.addresses import printable
from shared.db import Link
from shared.logs import redactor, wants_console
from shared.settings import Settings

log = structlog.get_logger()

FIRST = datetime(2009, 1, 1, tzinfo=UTC)
Jobs = dict[int, FileJob | RangeJob]


def read_date(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Read `2026-01-31` or an RFC 3339 time; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(value) if value else None
        return found and (found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is not a date: write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def read_names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str]:
    """Read comma-separated ids of assets."""
    names = list(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))
    if any(len(name) > 200 or not name.isprintable() for name in names):
        raise click.BadParameter("an id has at most 200 characters that can be shown")
    return names


@click.command()
@click.option("--source", type=click.Choice([*HISTORIES, "csv"]), metavar="NAME", help="coinpaprika, coingecko; csv for --file.")
@click.option("--from", "since", callback=read_date, metavar="DATE", help="First moment, e.g. 2026-01-31.")
@click.option("--to", "until", callback=read_date, metavar="DATE", help="Moment behind the last.")
@click.option("--interval", type=click.Choice(list(STEPS)), default="1d", help="Time between points: 1d unless given.")
@click.option("--assets", callback=read_names, metavar="ID,..", help="By the source's ids; all known unless given.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="The first N assets by rank.")
@click.option("--file", "paths", multiple=True, metavar="PATH..", help="Load files instead, .gz too.")
@click.argument("more", nargs=-1, metavar="")
@click.option("--asset", metavar="ID", help="Whose prices the files are.")
@click.option("--plan", "only_plan", is_flag=True, help="Show chunks, calls and time, write nothing.")
@click.option("--retry-not-allowed", is_flag=True, help="Ask again for what the plan did not allow.")
@click.option("--yes", is_flag=True, help=f"Begin even with more than {MOST_CHUNKS:,} chunks.")
@click.option("--json", "as_json", is_flag=True, help="Results on stdout, one object a line.")
@click.option("--quiet", is_flag=True, help="Say nothing unless something failed.")
@click.option("--progress", "mode", type=click.Choice(list(get_args(Mode))), default="auto", help="Progress bar on stderr.")
@click.pass_context
def backfill(ctx: click.Context, /, paths: tuple[str, ...], more: tuple[str, ...], only_plan: bool, mode: Mode, **told: Any) -> None:
    """Load history in chunks; the same command goes on, started twice it is shared.

    \b
    kasparro-etl backfill --source coinpaprika --from 2026-01-01 --to 2026-07-01
    kasparro-etl backfill --file btc.csv --asset bitcoin
    """
    require_one_kind(paths, more, told)
    settle_in()
    draw = wants_bar(mode) and not (told["as_json"] or told["quiet"])
    with on_signals() as stop, session() as (settings, link):
        if paths:
            code = load_files(link, settings, stop, [*paths, *more], only_plan, told, draw=draw)
        else:
            code = load_range(link, settings, stop, only_plan, told, draw=draw)
    ctx.exit(code)


def require_one_kind(paths: tuple[str, ...], more: tuple[str, ...], told: dict[str, Any]) -> None:
    """Refuse options that do not go together. Raises UsageError."""
    range_told = [name for name in ("since", "until", "top") if told[name]] + (["assets"] if told["assets"] else [])
    if paths and range_told:
        raise click.UsageError("--file loads all of a file: leave --from, --to, --assets and --top out")
    if not paths and (more or told["asset"]):
        raise click.UsageError("name files with --file")
    if not paths and (told["source"] not in HISTORIES or not told["since"] or not told["until"]):
        raise click.UsageError(f"name --file, or --source {' or '.join(HISTORIES)} with --from and --to")
    if told["assets"] and told["top"]:
        raise click.UsageError("--assets and --top exclude each other")
    if not paths and not FIRST <= told["since"] < told["until"]:
        raise click.UsageError(f"--from must lie before --to, and not before {FIRST:%Y-%m-%d}")
    if not paths and told["until"] > datetime.now(UTC):
        raise click.UsageError(f"--to lies in the future: history ends now, at {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    if told["asset"] and (len(told["asset"]) > 200 or not told["asset"].isprintable()):
        raise click.UsageError("--asset: an id has at most 200 characters that can be shown")


def load_range(link: Link, settings: Settings, stop: Stop, only_plan: bool, told: dict[str, Any], *, draw: bool) -> int:
    """Plan a range, and work on it unless only the plan was asked for."""
    wanted = Range(told["source"], told["since"], told["until"], told["interval"])
    plan = plan_range(link.conn, settings, wanted, told["assets"], told["top"], datetime.now(UTC))
    if plan.chunks > MOST_CHUNKS and not told["yes"]:
        raise click.UsageError(f"that makes {plan.chunks:,} chunks: name fewer assets or a shorter range, or pass --yes")
    if only_plan:
        report.say(show_range(plan, as_json=told["as_json"]))
        return 0
    jobs = begin_range(link.conn, plan)
    return carry_out(link, settings, stop, wanted.source, jobs, [], told, draw=draw)


def load_files(link: Link, settings: Settings, stop: Stop, paths: list[str], only_plan: bool, told: dict[str, Any], *, draw: bool) -> int:
    """Read files through, and load their blocks unless only the plan was asked for."""
    source = told["source"] or "csv"
    found, failures = find_files(paths)
    surveys: list[Survey] = []
    failed = [f"{path}: {error}" for path, error in failures]
    for path in found:
        try:
            surveys.append(survey(path, source, told["asset"], settings.etl_batch_size))
        except SourceError as error:
            failed.append(f"{path}: {error}")
    if only_plan:
        report.say(show_files(surveys, failed, as_json=told["as_json"]))
        return 3 if failed else 0
    jobs: Jobs = {}
    for one in surveys:
        jobs |= begin_file(link.conn, one)
    return carry_out(link, settings, stop, source, jobs, failed, told, draw=draw)


def carry_out(
    link: Link, settings: Settings, stop: Stop, source: str, jobs: Jobs, failed: list[str], told: dict[str, Any], *, draw: bool
) -> int:
    """Work on backfills, tell how it came out, and give the exit code. What is ended already is not begun again."""
    reopen_chunks(link.conn, list(jobs), everything=told["retry_not_allowed"])
    tally, outcomes = get_tally(link.conn, list(jobs)), list[Outcome]()
    hide = redactor(settings)
    if tally.open:
        with progress(source, draw=draw) as show:
            outcome, tally = work_off(Work(link, settings, source, jobs, stop, show, hide))
        outcomes = [outcome]
        tell(outcome, settings, told_of(outcome, hide), as_json=told["as_json"], quiet=told["quiet"], dry=False)
    code = exit_code(outcomes, stop, "fail")
    code = 3 if code == 0 and (failed or tally.failed or tally.not_allowed) else code
    say_end(settings, outcomes, tally, [printable(hide(one)) for one in failed], code, told, hide)
    make_read_indexes(link.conn, stop)
    return code


def say_end(
    settings: Settings,
    outcomes: list[Outcome],
    tally: Tally,
    failed: list[str],
    code: int,
    told: dict[str, Any],
    hide: Callable[[str], str],
) -> None:
    """The last lines: files that were not loaded, and how the backfill stands."""
    chunks = {name: getattr(tally, name) for name in Tally.__slots__}
    if told["as_json"]:
        runs = [report.facts(outcome, told_of(outcome, hide)) for outcome in outcomes]
        report.say(report.one_object({"type": "summary", "exit_code": code, "runs": runs, "chunks": chunks, "not_loaded": failed}))
    if told["quiet"] and code == 0:
        return
    if wants_console(settings):
        for line in [*failed, *finished(outcomes, tally)]:
            report.say(line, err=True)
        return
    for line in failed:
        log.error("file refused", reason=line)
    counts = {f"chunks_{name}": count for name, count in chunks.items()}
    log.info("backfill finished" if code == 0 else "backfill ended", exit_code=code, **counts)
