"""What only a person at a terminal sees: a word at once while the program loads, and how wide a line may be."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress

WIDEST = 100
"""Columns a line takes at the most where the terminal does not tell its width."""
shown: list[str] = []


def announce(text: str) -> None:
    """Say at once what comes, on standard error, until `wipe`; nothing off a terminal."""
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            sys.stderr.write(f"{text}\r")
            sys.stderr.flush()
            shown.append(text)


def wipe() -> None:
    """Take back what was announced."""
    with suppress(OSError, ValueError):
        while shown:
            sys.stderr.write(f"{' ' * len(shown.pop())}\r")
            sys.stderr.flush()


def attended() -> bool:
    """Whether somebody can be asked: standard input is a terminal, and was not closed."""
    with suppress(OSError, ValueError, AttributeError):
        return sys.stdin.isatty()
    return False


def room() -> int | None:
    """Columns that a line on standard output may take, None where nobody watches and nothing is to be cut."""
    with suppress(OSError, ValueError):
        if sys.stdout.isatty():
            return shutil.get_terminal_size((WIDEST, 24)).columns
    return None
