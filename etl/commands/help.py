"""`kasparro-etl help`: the help of a command, and what exit codes mean."""

from __future__ import annotations

import click

from etl.exit_codes import MEANINGS
from etl.table import table


@click.command(short_help="Show the help of a command, or `help exit-codes`.")
@click.argument("words", metavar="[COMMAND|exit-codes]", nargs=-1)
@click.pass_context
def help(ctx: click.Context, /, words: tuple[str, ...]) -> None:
    """Show the help of a command, or what the exit codes mean.

    \b
    Examples:
      kasparro-etl help run
      kasparro-etl help quarantine retry
      kasparro-etl help exit-codes
    """
    if words == ("exit-codes",):
        click.echo(table(("EXIT", "MEANING", "WHAT TO DO"), MEANINGS))
        return
    at = ctx.parent
    assert at
    for word in words:
        command = at.command.get_command(at, word) if isinstance(at.command, click.Group) else None
        if command is None:
            raise click.UsageError(f"there is no command {' '.join(words)}: see kasparro-etl help", ctx)
        at = click.Context(command, at, word)
    click.echo(at.command.get_help(at))
