"""The command group, and the one table from errors to exit codes."""

from __future__ import annotations

import io
import sys

import click

from etl.commands.migrate import migrate
from etl.commands.quarantine import quarantine
from etl.commands.run import run
from etl.commands.sources import sources
from etl.commands.status import status
from etl.errors import Locked, SourceError, Stopped
from shared.errors import DatabaseError, KasparroError, SchemaError, SettingsError

EPILOG = """\b
Exit codes
  0    all succeeded; nothing new is success
  1    a bug: the traceback is in the log, other sources still ran
  2    usage or configuration
  3    some source failed or was refused; what was committed stays
  4    database unreachable, or its schema is not migrated
  5    every source asked for is locked by another run
  130  stopped by SIGINT, 143 by SIGTERM, after a clean end of the batch"""

EXIT_CODES: tuple[tuple[type[KasparroError], int], ...] = (
    (SettingsError, 2),
    (SourceError, 3),
    (DatabaseError, 4),
    (SchemaError, 4),
    (Locked, 5),
)


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="kasparro-etl", prog_name="kasparro-etl")
def cli() -> None:
    """Extract crypto prices and news, validate them, load them into Postgres.

    Settings come from the environment; `.env.example` lists them. Without DATABASE_URL an embedded Postgres is used.
    """


for command in (run, status, sources, quarantine, migrate):
    cli.add_command(command)


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and its exit code."""
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()  # quirk: None when the caller closed them
    try:
        sys.exit(cli(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("kasparro-etl: stopped at once: what was committed is safe, run the same command again to go on", err=True)
        sys.exit(130)
    except KasparroError as error:
        for problem in str(error).splitlines():
            click.echo(f"kasparro-etl: {problem}", err=True)
        sys.exit(exit_code(error))


def exit_code(error: KasparroError) -> int:
    """The exit code of an expected failure; of one that nobody foresaw, that of a bug."""
    if isinstance(error, Stopped):
        return 128 + error.signal
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
