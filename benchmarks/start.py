"""How long the command line takes to start, beside an interpreter that does nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.databases import COMMAND, fresh
from benchmarks.results import table

ROOT = Path(__file__).parent.parent


def measure(bench: Bench) -> dict[str, float]:
    """Seconds of each, the median of rounds in turn, more than asked for, for they are short; of a run, also until its first output."""
    with fresh(bench.dsn) as dsn:
        return measure_starts(dsn, 4 * bench.rounds - 1)


def measure_starts(dsn: str, rounds: int) -> dict[str, float]:
    """The starts in turn."""
    run = [str(COMMAND), "run", "--source", "csv"]
    cases = {
        "python -c pass": ([sys.executable, "-c", "pass"], False),
        "kasparro-etl --version": ([str(COMMAND), "--version"], False),
        "kasparro-etl run, first output": (run, True),
        "kasparro-etl run of one small file": (run, False),
    }
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, "TERM": "xterm"}
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (command, first) in cases.items():
            found[name].append(on_terminal(command, env, first=first))
    return {name: median(times) for name, times in found.items()}


def on_terminal(command: list[str], env: dict[str, str], *, first: bool) -> float:
    """Seconds until a command on a terminal of its own shows something, or until it ends."""
    ours, its = pty.openpty()
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env=env, stdin=its, stdout=its, stderr=its):
        os.close(its)
        with suppress(OSError):  # what Linux says of a terminal that nobody has open any more
            while os.read(ours, 4096) and not first:
                pass
            seen = time.perf_counter() - began
            while os.read(ours, 4096):
                pass
    os.close(ours)
    return seen if first else time.perf_counter() - began


def tell(found: dict[str, float]) -> list[str]:
    """Seconds of a start."""
    return ["## Start of the command line", table(("", "seconds"), ((name, f"{took:.3f}") for name, took in found.items()))]
