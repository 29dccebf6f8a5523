"""How long the command line takes to start, beside an interpreter that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.databases import COMMAND, fresh
from benchmarks.results import table

ROOT = Path(__file__).parent.parent


def measure(bench: Bench) -> dict[str, float]:
    """Seconds of each, the median of rounds in turn, more than asked for, for they are short; of a run, until its first output."""
    with fresh(bench.dsn) as dsn:
        return measure_starts(dsn, 4 * bench.rounds - 1)


def measure_starts(dsn: str, rounds: int) -> dict[str, float]:
    """The starts in turn."""
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn}
    cases = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "kasparro-etl --version": [str(COMMAND), "--version"],
        "kasparro-etl run, first output": [str(COMMAND), "run", "--source", "csv"],
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, command in cases.items():
            began = time.perf_counter()
            with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
                assert process.stdout
                process.stdout.read(1)
                if "first" not in name:
                    process.wait()
                found[name].append(time.perf_counter() - began)
                process.communicate()
    return {name: median(times) for name, times in found.items()}


def tell(found: dict[str, float]) -> list[str]:
    """Seconds of a start."""
    return ["## Start of the command line", table(("", "seconds"), ((name, f"{took:.3f}") for name, took in found.items()))]
