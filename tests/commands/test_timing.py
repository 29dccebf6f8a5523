"""The trials that take times, a few rounds of them: killed runs go on, stopped ones end within what platforms grant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_killed_and_stopped_runs_leave_the_tables_of_a_clean_run_and_end_in_time() -> None:
    command = [sys.executable, "-m", "tests.trials.timing", "--rounds", "1", "--seed", "1", "--quick"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 violations, seed 1" in done.stdout.splitlines()[-1]
