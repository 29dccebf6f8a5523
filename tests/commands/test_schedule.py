"""`kasparro-etl schedule`: cron for containers, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shared.db import Connection

PROGRAM = str(Path(sys.executable).parent / "kasparro-etl")


def test_the_first_run_starts_at_once_and_sigterm_ends_all_cleanly(dsn: str, conn: Connection, tmp_path: Path) -> None:
    rows = "".join(f"{n},S{n},Name {n},1.5\n" for n in range(20_000))
    (tmp_path / "many.csv").write_text("id,symbol,name,price\n" + rows)
    (tmp_path / "crontab").write_text(f"0 0 1 1 * exec {PROGRAM} run --source csv --trigger cron --if-locked=skip\n")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn, "CSV_PATHS": "many.csv", "ETL_BATCH_SIZE": "100"}
    process = subprocess.Popen(
        [PROGRAM, "schedule", "crontab", "--now"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        end = time.monotonic() + 120
        while conn.execute("select from etl_runs where records_extracted > 0").fetchone() is None and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    (run,) = conn.execute("select trigger, status, records_extracted from etl_runs").fetchall()
    assert (run["trigger"], run["status"]) == ("cron", "cancelled")
    assert "stopped on request" in out
    assert '"exit_code": 143' in err


def test_it_ends_at_once_when_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("0 0 1 1 * true\n")
    process = subprocess.Popen(
        [PROGRAM, "schedule", "crontab"], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    assert "job scheduled" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.stderr.close()


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("* * * * true", "line 1: expected five fields")])
def test_a_crontab_that_cannot_be_used_is_one_line(etl: Any, tmp_path: Path, text: str | None, said: str) -> None:
    if text:
        (tmp_path / "crontab").write_text(text)
    done = etl("schedule", "crontab")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
