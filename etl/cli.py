"""The command group: each command's module is imported only when it is the one asked for, so that the first word comes at once."""

from __future__ import annotations

import errno
import gc
import sys
from importlib import import_module
from typing import Any, TextIO

import click

from etl.exit_codes import exit_code
from etl.terminal import announce, wipe
from shared.errors import KasparroError
from shared.streams import lost, unfailing

__all__ = ["cli", "exit_code", "main"]

COMMANDS: dict[str, str] = {
    "run": "Load what is new, from some or all sources.",
    "backfill": "Load the history of a past range, or of files.",
    "replay": "Load again from the stored payloads, or compare with them.",
    "status": "Show how every source stands.",
    "runs": "List runs, show one, compare two.",
    "checkpoints": "Show where sources stand, or start one anew.",
    "quarantine": "Look at records that did not validate, and try them again.",
    "drift": "Look at changes of upstreams' fields, and accept them.",
    "sources": "List the sources and what they read.",
    "worker": "Execute the runs that the API queued.",
    "schedule": "Run a crontab in the foreground: cron for containers.",
    "migrate": "Bring the database to the schema of this version.",
    "doctor": "Check what a run depends on, and say how to mend it.",
    "prune": "Delete old raw payloads, drop old price history.",
    "completion": "Print the completion script of a shell.",
    "help": "Show the help of a command, or `help exit-codes`.",
}
"""Every command with its line in the list; it is the object of that name in the module of that name in etl.commands."""
SILENT = {"help", "completion", "--help", "-h", "--quiet", "--json"}


class Commands(click.Group):
    """A group that knows its commands by name before it imports them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; meanwhile a person at a terminal sees that something is under way."""
        if cmd_name not in COMMANDS:
            return None
        if not ctx.resilient_parsing and SILENT.isdisjoint(sys.argv):
            announce(f"kasparro-etl {cmd_name}: starting")
        gc.disable()  # looking for cycles takes a fifth of the time that imports take, and finds none
        found: Any = getattr(import_module(f"etl.commands.{cmd_name}"), cmd_name)
        gc.enable()
        return found if isinstance(found, click.Command) else None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them; the two options stand in the usage line."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands,
    options_metavar="[--version] [-h|--help]",
    epilog="Start with: kasparro-etl run --source all",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(package_name="kasparro-etl", prog_name="kasparro-etl")
def cli() -> None:
    """Crypto prices and news into Postgres. Settings come from the environment, see .env.example;
    without DATABASE_URL an embedded Postgres is used.
    """


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and its exit code."""
    out = unfailing(sys.stdout, whole=True)
    sys.stdout, sys.stderr = out, unfailing(sys.stderr)
    code = carried_out()
    sys.exit(code if arrived(out) else code or 3)


def carried_out() -> int:
    """Run the command, and give its exit code."""
    try:
        return cli(standalone_mode=False) or 0
    except click.ClickException as error:
        wipe()
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        wipe()
        click.echo("kasparro-etl: stopped at once: what was committed is safe, run the same command again to go on", err=True)
        return 130
    except KasparroError as error:
        wipe()
        for problem in str(error).splitlines():
            click.echo(f"kasparro-etl: {problem}", err=True)
        return exit_code(error)


def arrived(out: TextIO) -> bool:
    """Whether nobody misses any of the output: a reader that went away has read enough, a full disk has not, and is told of."""
    error = lost(out)
    if error is None or error.errno == errno.EPIPE:
        return True
    click.echo(f"kasparro-etl: cannot write the output: {error.strerror}: mend that, or send it elsewhere, and run this again", err=True)
    return False
