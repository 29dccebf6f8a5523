"""`kasparro-etl worker`: executes the runs that `POST /etl/run` queued."""

from __future__ import annotations

from contextlib import suppress

import click
import structlog

from etl.chaos import Chaos
from etl.commands.run import exit_code, settle_in, tell, told_of
from etl.commands.session import session
from etl.errors import Stopped
from etl.sources import SOURCES
from etl.stop import Stop, on_signals
from etl.work import Options, Outcome, Work
from etl.worker import attend, drain
from shared.db import Link
from shared.logs import redactor, wants_console
from shared.settings import Settings
from sql import queries

log = structlog.get_logger()


@click.command(short_help="Execute the runs that the API queued.")
@click.option("--once", is_flag=True, help="Execute what is queued now, then exit: for cron and jobs.")
@click.pass_context
def worker(ctx: click.Context, /, once: bool) -> None:
    """Execute what POST /etl/run queued, one run after the other; several workers share the queue.

    \b
    Examples:
      kasparro-etl worker
      kasparro-etl worker --once
    """
    settle_in()
    outcomes = list[Outcome]()
    with on_signals() as stop, session() as (settings, link):
        link.conn.execute(queries["mark_nothing"])  # an address that only reads would find nothing to do, for ever
        works, hide = works_of(settings, link, stop), redactor(settings)
        if not once:
            log.info("worker started", sources=list(works))
        with suppress(Stopped):
            for outcome in (drain if once else attend)(link, stop, works):
                tell(outcome, settings, told_of(outcome, hide), as_json=False, quiet=False, dry=False)
                outcomes = [*outcomes, outcome] if once else []
        if once and not outcomes and wants_console(settings):
            click.echo("nothing is queued: POST /etl/run queues a run", err=True)
    ctx.exit(exit_code(outcomes, stop, "skip"))


def works_of(settings: Settings, link: Link, stop: Stop) -> dict[str, Work]:
    """How each source is run for a request: as `run` does it without options."""
    options, hide = Options(settings.etl_batch_size), redactor(settings)
    return {name: Work(link, source, settings, options, stop, lambda _: None, hide, Chaos()) for name, source in SOURCES.items()}
