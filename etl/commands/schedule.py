"""`kasparro-etl schedule`: cron for containers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from etl.crontab import read_crontab
from etl.schedule import attend, on_stop
from shared.errors import SettingsError
from shared.logs import configure
from shared.settings import read_settings


@click.command(short_help="Run the lines of a crontab, in the foreground: cron for containers.")
@click.argument("crontab", type=click.Path(path_type=Path))
@click.option("--now", is_flag=True, help="Run the ETL once at the start, too.")
@click.pass_context
def schedule(ctx: click.Context, /, crontab: Path, now: bool) -> None:
    """Run the lines of a crontab when they are due, in UTC, until SIGTERM; no root, no daemon, output on stdout.

    ETL_INTERVAL_MINUTES, where it is set, replaces times that mean another interval. RANDOM_DELAY in the crontab is the jitter in minutes.

    \b
    Example:
      kasparro-etl schedule crontab --now
    """
    settings = read_settings()
    configure(settings)
    interval = timedelta(minutes=settings.etl_interval_minutes) if "etl_interval_minutes" in settings.model_fields_set else None
    try:
        text = crontab.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{crontab} cannot be read ({type(error).__name__}): name a readable crontab"]) from None
    with on_stop() as stops:
        number = attend(read_crontab(text), stops, interval, at_once=now)
    ctx.exit(128 + number)
