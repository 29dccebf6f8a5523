"""Output that nobody takes: logs that cannot be written stop no work, a result that cannot be written is told."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.db import Connection

Shell = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = shlex.quote(str(Path(sys.executable).parent / "kasparro-etl"))
TOLD = "kasparro-etl: cannot write the output: No space left on device: mend that, or send it elsewhere, and run this again\n"
CSV = "id,symbol,name,price_usd\nbitcoin,BTC,Bitcoin,60000\nether,ETH,Ether,3000\n"
SHOWING = ["status", "runs list --json", "sources", "help", "--help", "--version", "checkpoints show --json", "completion bash"]
WORKING = ["run --source csv --json", "doctor --offline --json", "replay --source csv --verify --json", "prune --raw-older-than 90d --json"]


@pytest.fixture
def shell(dsn: str, tmp_path: Path, offline: dict[str, str]) -> Shell:
    """Run `kasparro-etl` with a shell's redirections, on a file of the test's; the code is that of the first command of a pipeline."""
    (tmp_path / "assets.csv").write_text(CSV)
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn, "CSV_PATHS": str(tmp_path / "*.csv"), **offline}

    def run(words: str, before: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        script = f"{before} {PROGRAM} {words}; exit ${{PIPESTATUS[0]}}"
        return subprocess.run(["/bin/bash", "-c", script], env=env | environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def loaded(shell: Shell) -> None:
    """A database that a run has filled."""
    assert shell("run --source all").returncode == 0


@pytest.mark.parametrize(
    ("redirect", "form"),
    [
        ("2> /dev/full", "json"),
        ("2> /dev/full", "console"),
        ("2>&1 | true", "json"),
        ("--progress bar 2> /dev/full", "console"),
        ("--progress bar 2>&1 | true", "console"),
    ],
)
def test_logs_that_cannot_be_written_stop_no_source(shell: Shell, conn: Connection, redirect: str, form: str) -> None:
    done = shell(f"run --source all {redirect}", LOG_FORMAT=form, LOG_LEVEL="DEBUG")
    assert done.returncode == 0, done.stderr
    runs = conn.execute("select source, status from etl_runs order by source").fetchall()
    assert [(row["source"], row["status"]) for row in runs] == [(name, "success") for name in ("coingecko", "coinpaprika", "csv", "rss")]


def test_the_exit_code_stays_that_of_the_work_where_its_logs_are_lost(shell: Shell) -> None:
    assert shell("run --source csv 2> /dev/full", CSV_PATHS="/nowhere.csv").returncode == 3
    assert shell("run --source nonsense 2> /dev/full").returncode == 2
    assert shell("status 2> /dev/full", DATABASE_URL="postgresql://127.0.0.1:1/none").returncode == 4
    assert shell("run --source csv --json > /dev/full", DATABASE_URL="postgresql://127.0.0.1:1/none").returncode == 4


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("words", [*SHOWING, *WORKING])
def test_a_result_that_cannot_be_written_is_one_line_and_exit_3(shell: Shell, words: str) -> None:
    done = shell(f"{words} > /dev/full", LOG_LEVEL="ERROR")
    assert (done.returncode, done.stderr) == (3, TOLD)


def test_an_output_without_a_buffer_is_no_other(shell: Shell) -> None:
    done = shell("sources > /dev/full", PYTHONUNBUFFERED="1")
    assert (done.returncode, done.stderr) == (3, TOLD)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("words", ["--help", "sources --json", "completion bash", "quarantine export", "doctor --offline", *WORKING])
def test_a_reader_that_goes_away_has_read_enough(shell: Shell, words: str) -> None:
    done = shell(f"{words} | true", LOG_LEVEL="ERROR")
    assert (done.returncode, done.stderr) == (shell(words).returncode, "")


def test_whoever_reads_the_head_of_a_list_gets_it_and_no_more(shell: Shell) -> None:
    for _ in range(2):
        assert shell("run --source csv").returncode == 0
    done = shell("runs list --json | head -1")
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


def test_an_output_ends_where_the_disk_was_full_and_has_no_hole(shell: Shell, tmp_path: Path) -> None:
    whole = shell("completion bash").stdout.encode()
    done = shell(f"completion bash > {tmp_path}/out", before="trap '' XFSZ; ulimit -f 0;")
    assert done.returncode == 3
    assert "cannot write the output: File too large" in done.stderr
    assert whole.startswith((tmp_path / "out").read_bytes())


def test_a_source_in_a_folder_that_is_gone_fails_alone(shell: Shell, tmp_path: Path) -> None:
    done = shell(
        "run --source csv,rss --json", before=f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone;", CSV_PATHS="*.csv"
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "is relative to a working directory that is gone: start in another one" in done.stdout
    assert '"source": "rss", "id": 2, "status": "success"' in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "runs show 0",
        "runs compare 1000000000000000000000000000000 1",
        "quarantine show 9223372036854775808",
        "quarantine retry 9223372036854775808",
        "quarantine retry -- -5",
        "drift accept 9223372036854775808",
        "replay --run 9223372036854775808 --verify",
    ],
)
def test_what_no_table_holds_as_an_id_is_refused(shell: Shell, words: str) -> None:
    done = shell(words)
    assert done.returncode == 2
    assert "is no id: expected a whole number from 1 on, as the list shows it" in done.stderr


def test_the_greatest_id_is_looked_for(shell: Shell) -> None:
    done = shell("runs show 9223372036854775807")
    assert (done.returncode, "there is no run 9223372036854775807" in done.stderr) == (2, True)
