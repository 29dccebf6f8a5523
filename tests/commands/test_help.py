"""Help, completion and start-up of the command line: what a person meets before any work is done."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from etl.cli import COMMANDS, cli
from etl.exit_codes import EXIT_CODES, MEANINGS

PROGRAM = str(Path(sys.executable).parent / "kasparro-etl")
HEAVY = ("psycopg", "requests", "pydantic", "structlog", "feedparser", "etl.sources")


def commands(group: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and subcommand as the words that call it."""
    yield words
    if isinstance(group, click.Group):
        for name in group.list_commands(click.Context(group)):
            found = group.get_command(click.Context(group, resilient_parsing=True), name)
            assert found
            yield from commands(found, (*words, name))


EVERY = list(commands(cli))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_help_fits_a_screen_and_shows_examples(words: tuple[str, ...]) -> None:
    at = click.Context(cli, info_name="kasparro-etl", terminal_width=80, max_content_width=80)
    for word in words:
        assert isinstance(at.command, click.Group)
        found = at.command.get_command(click.Context(at.command, resilient_parsing=True), word)
        assert found
        at = click.Context(found, at, word, terminal_width=80, max_content_width=80)
    lines = at.command.get_help(at).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "kasparro-etl " in "\n".join(lines[1:]), "no example"


def test_every_command_of_the_contract_is_there() -> None:
    named = "run replay status runs checkpoints quarantine drift sources worker migrate doctor prune"
    assert set(named.split()) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_what_the_list_says(name: str) -> None:
    found = getattr(import_module(f"etl.commands.{name}"), name)
    assert isinstance(found, click.Command)
    assert found.name == name


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["help", "exit-codes"], ["completion", "bash"]], ids=" ".join)
def test_what_needs_no_work_loads_nothing_heavy(words: list[str]) -> None:
    script = f"import sys\nfrom etl.cli import cli\ncli({words!r}, standalone_mode=False)\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout
    assert [name for name in HEAVY if name in done.stderr.split()] == []


def test_a_person_at_a_terminal_sees_at_once_that_something_starts() -> None:
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    with subprocess.Popen([PROGRAM, "status"], env=env, stdout=theirs, stderr=theirs) as process:
        first = os.read(ours, 200)
        process.wait(60)
        rest = os.read(ours, 2000)
    os.close(ours)
    os.close(theirs)
    assert first == b"kasparro-etl status: starting\r"
    assert rest.startswith(b" " * 29 + b"\r")
    assert b"database unreachable" in rest
    assert process.returncode == 4


def test_off_a_terminal_nothing_is_announced(etl: Any) -> None:
    assert "starting" not in (done := etl("status")).err + done.out


def test_exit_codes_are_explained(etl: Any) -> None:
    done = etl("help", "exit-codes")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == [code for code, _, _ in MEANINGS]
    assert {str(code) for _, code in EXIT_CODES} < {code for code, _, _ in MEANINGS}
    assert max(map(len, done.out.splitlines())) <= 100


def test_help_of_a_command_is_its_help(etl: Any) -> None:
    assert etl("help", "quarantine", "retry").out.splitlines()[3:] == etl("quarantine", "retry", "--help").out.splitlines()[3:]
    assert etl("help").out.splitlines()[1:] == etl("--help").out.splitlines()[1:]
    wrong = etl("help", "nonsense")
    assert (wrong.code, "there is no command nonsense" in wrong.err) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_is_printed(etl: Any, shell: str) -> None:
    done = etl("completion", shell)
    assert (done.code, f"_KASPARRO_ETL_COMPLETE={shell}_complete" in done.out) == (0, True)


def test_commands_and_options_complete(etl: Any) -> None:
    asked = {"_KASPARRO_ETL_COMPLETE": "bash_complete", "COMP_WORDS": "kasparro-etl qu", "COMP_CWORD": "1"}
    assert etl(**asked).out == "plain,quarantine\n"
    assert "plain,--full-refresh" in etl(**asked | {"COMP_WORDS": "kasparro-etl run --f", "COMP_CWORD": "2"}).out
