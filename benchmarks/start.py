"""How long the command line takes to start, beside an interpreter that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
COMMAND = str(Path(sys.executable).parent / "kasparro-etl")


def measure(dsn: str, rounds: int) -> dict[str, float]:
    """Seconds of each, the median of rounds in turn; of a run, until its first output."""
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn}
    cases = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "kasparro-etl --version": [COMMAND, "--version"],
        "kasparro-etl run, first output": [COMMAND, "run", "--source", "csv"],
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
