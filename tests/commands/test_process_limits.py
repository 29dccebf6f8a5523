"""Processes at their limits: memory, connections, crowds; each ends with a clear line or does its work, and the books balance."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from shared.db import Connection, connect
from shared.errors import DatabaseError
from tests.trials.oracle import picture, violations

PROGRAM = str(Path(sys.executable).parent / "kasparro-etl")
MEMORY = 400
"""Megabytes of address space: the interpreter with all it imports takes about 200 before the first record."""
LINES = 100_000
TWENTY = """
import os, sys
from etl.cli import main
reading, writing = os.pipe()
for _ in range(20):
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)
        sys.argv[1:] = ["run", "--source", "coingecko"]
        main()
os.close(reading)
os.close(writing)
for _ in range(20):
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
"""Starts twenty runs at the same instant, which is when the last writing end is closed, and prints each exit code as it comes."""


@pytest.fixture
def limited(dsn: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with so much address space, and no more."""

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        shell = f'ulimit -v {MEMORY * 1024} && exec "$0" "$@"'
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn}
        return subprocess.run(
            ["/bin/sh", "-c", shell, PROGRAM, *words], env=bare | environ, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    return run


def test_a_large_file_is_loaded_within_little_memory(limited: Any, conn: Connection, tmp_path: Path) -> None:
    with (tmp_path / "large.csv").open("w") as file:
        file.write("symbol,name,price,last_updated\n")
        file.writelines(f"L{n},Name {n},{n}.50,2026-03-01T00:00:00Z\n" for n in range(LINES))
    done = limited("run", "--source", "csv", CSV_PATHS=str(tmp_path / "*.csv"))
    assert done.returncode == 0, done.stderr
    assert conn.execute("select count(*) as n from unified_data").fetchone() == {"n": LINES}


def test_a_page_above_the_cap_is_refused_in_one_line_within_little_memory(limited: Any, upstream: Any, conn: Connection) -> None:
    upstream.answers["/p/tickers"] = b'[{"id":"' + b"x" * (66 * 1024 * 1024) + b'"}]'
    done = limited("run", "--source", "coinpaprika", COINPAPRIKA_BASE_URL=f"{upstream.url}/p")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr
    assert re.search(r"answered with more than \d+ MiB: check the address", done.stderr)
    assert "Traceback" not in done.stderr
    assert conn.execute("select count(*) as n from raw_payloads").fetchone() == {"n": 0}


def test_a_server_without_a_free_connection_is_one_line_and_exit_4_and_nothing_more(etl: Any, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,symbol,name,price\nbtc,BTC,Bitcoin,1.5\n")
    with ExitStack() as stack:
        with suppress(DatabaseError):
            for _ in range(10_000):
                stack.enter_context(closing(connect(dsn, "crowd")))
        done = etl("run", "--source", "csv", CSV_PATHS=str(tmp_path / "*.csv"))
        assert (done.code, len(done.err.splitlines())) == (4, 1), done.err
        assert "sorry, too many clients already" in done.err
    assert etl("run", "--source", "csv", CSV_PATHS=str(tmp_path / "*.csv")).code == 0


def test_of_twenty_runs_of_a_source_at_once_one_works_and_the_others_say_so(
    dsn: str, conn: Connection, upstream: Any, tmp_path: Path
) -> None:
    free = threading.Event()

    def answer(_request: Any) -> bytes:
        free.wait(120)
        return b'[{"id":"a","symbol":"a","name":"A","current_price":1,"last_updated":null}]'

    upstream.answers["/g/coins/markets"] = answer
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn, "COINGECKO_BASE_URL": f"{upstream.url}/g"}
    with subprocess.Popen([sys.executable, "-c", TWENTY], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as runs:
        try:
            assert runs.stdout
            codes = [int(runs.stdout.readline()) for _ in range(19)]
        finally:
            free.set()
        rest, told = runs.communicate(timeout=60)
    assert (codes, int(rest), len(upstream.log)) == ([5] * 19, 0, 1)
    assert ("Traceback" in told, len(told.splitlines())) == (False, 20), told
    assert conn.execute("select status from etl_runs").fetchall() == [{"status": "success"}]
    assert conn.execute("select lease_expires_at from etl_checkpoints").fetchall() == [{"lease_expires_at": None}]


def test_a_run_and_a_retry_of_its_quarantine_at_once_keep_to_the_lease(etl: Any, dsn: str, conn: Connection, tmp_path: Path) -> None:
    rows = [f"c{n},C{n},Coin {n},{'cheap' if n % 5 == 0 else n}\n" for n in range(60)]
    environ = {"CSV_PATHS": str(tmp_path / "*.csv")}
    (tmp_path / "a.csv").write_text("id,symbol,name,price\n" + "".join(rows[:40]))
    assert etl("run", "--source", "csv", "--batch-size", "3", **environ).code == 0
    (tmp_path / "a.csv").write_text("id,symbol,name,price\n" + "".join(rows))
    ends: dict[str, list[int]] = {"run": [], "retry": []}

    def both() -> None:
        words = {"run": ("run", "--source", "csv", "--batch-size", "3"), "retry": ("quarantine", "retry", "--source", "csv")}
        threads = [threading.Thread(target=lambda name=name: ends[name].append(etl(*words[name], **environ).code)) for name in words]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for _ in range(2):
        both()
    assert etl("run", "--source", "csv", **environ).code == 0
    assert set(ends["run"]) <= {0, 5}
    assert set(ends["retry"]) <= {3, 5}
    assert violations(dsn, picture(dsn)) == []
    assert conn.execute("select count(*) as n, count(distinct external_id) as keys from unified_data").fetchone() == {"n": 48, "keys": 48}
    assert conn.execute("select count(*) as n from quarantined_records where resolved_at is null").fetchone() == {"n": 12}
