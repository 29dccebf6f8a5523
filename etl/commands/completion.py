"""`kasparro-etl completion`: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM, VARIABLE = "kasparro-etl", "_KASPARRO_ETL_COMPLETE"
"""The name that completes, and the variable through which the script asks; click derives the one from the other."""


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    Examples:
      kasparro-etl completion bash > ~/.local/share/bash-completion/kasparro-etl
      kasparro-etl completion fish > ~/.config/fish/completions/kasparro-etl.fish
    """
    kind = get_completion_class(shell)
    assert kind
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
