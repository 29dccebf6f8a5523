"""The benchmark of the price history makes its points, asks every question, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.history import CASES

ROOT = Path(__file__).parent.parent


def test_every_question_is_asked_and_answered_in_time(tmp_path: Path) -> None:
    small = ["--points", "40000", "--assets", "10", "--requests", "2"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.history", *small], cwd=ROOT, env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("40,000 points of 10 assets")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("| raw |", "| 1h |", "| 1d |"))]
    assert [line.rstrip(" |").split("| ")[-1] for line in lines] == ["0"] * len(CASES)
