"""What surrounds a command may be odd: a closed input, few descriptors, no home, narrow encodings, far futures, loud upstreams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.errors import SourceError
from etl.sources.csv_files.files import moment_of
from shared.db import Connection

EXE = Path(sys.executable).parent / "kasparro-etl"
Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(dsn: str, tmp_path: Path) -> Shell:
    """Run a line of shell in which $EXE is the command."""

    def run(line: str, **environ: str) -> subprocess.CompletedProcess[str]:
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn, "EXE": str(EXE)}
        return subprocess.run(["/bin/sh", "-c", line], env=bare | environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.parametrize("command", ["checkpoints reset --source csv", "prune --price-history-older-than 30d", "quarantine dismiss 1"])
def test_who_closed_the_input_is_not_asked(shell: Shell, command: str) -> None:
    done = shell(f"$EXE {command} <&-")
    assert (done.returncode, "nobody is there to ask: pass --yes" in done.stderr) == (2, True), done.stderr


def test_many_files_need_few_descriptors(shell: Shell, conn: Connection, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.csv").write_text(f"date,price\n2026-01-02,{number}\n")
    done = shell("ulimit -n 48; $EXE backfill --file '*.csv' --asset a")
    assert done.returncode == 0, done.stderr
    assert conn.execute("select count(*) as n from backfill_chunks where state = 'done'").fetchone() == {"n": 60}


def test_what_an_encoding_does_not_have_is_written_as_an_escape(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "日本.csv").write_text("id,symbol,name,price\nbtc,BTC,Bitcoin,1\n")
    done = shell("$EXE backfill --plan --file '*.csv'", PYTHONIOENCODING="latin-1")
    assert (done.returncode, "\\u65e5\\u672c.csv" in done.stdout) == (0, True), done.stderr
    (tmp_path / "日本.csv").write_text("id,symbol,name,price\nこれ,X,Y,cheap\neth,ETH,Ether,1\n")
    assert shell("$EXE run --source csv", CSV_PATHS=str(tmp_path / "*.csv")).returncode == 0
    done = shell("$EXE quarantine list", PYTHONIOENCODING="latin-1")
    assert (done.returncode, "\\u3053\\u308c" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_moment_beyond_the_calendar_is_no_date(etl: Any, since: str) -> None:
    done = etl("backfill", "--source", "coinpaprika", "--from", since)
    assert (done.code, f"'{since}' is not a date" in done.err) == (2, True), done.err


def test_a_file_of_a_year_beyond_9999_is_refused_by_its_name() -> None:
    with pytest.raises(SourceError, match="in a year beyond 9999"):
        moment_of(253_402_300_800.0)


def test_without_a_home_a_folder_is_asked_for(shell: Shell) -> None:
    done = shell("unset DATABASE_URL; $EXE status", KASPARRO_HOME="~nobody-has-this-name/kasparro")
    assert (done.returncode, "KASPARRO_HOME: the home of ~nobody-has-this-name is not known: name a folder" in done.stderr) == (2, True)


@pytest.fixture
def history(etl: Any, upstream: Any) -> Callable[..., Any]:
    """Ask for three days of one asset's history."""
    days = [f"{datetime.now(UTC) - timedelta(days=ago):%Y-%m-%d}" for ago in (5, 2)]
    asked = ("backfill", "--source", "coingecko", "--assets", "bitcoin", "--from", days[0], "--to", days[1])
    return lambda *args, **environ: etl(*asked, *args, COINGECKO_BASE_URL=f"{upstream.url}/g", **environ)


def test_a_key_that_an_upstream_repeats_is_in_no_line_of_a_backfill(upstream: Any, history: Callable[..., Any]) -> None:
    key = "CG-a-key-that-is-secret"
    told = json.dumps({"error": f"Invalid key {key}"}).encode()
    upstream.answers["/g/coins/bitcoin/market_chart/range"] = (401, {"Content-Type": "application/json"}, told)
    done = history("--json", COINGECKO_API_KEY=key)
    assert (done.code, key in done.out + done.err, "Invalid key ***" in done.out) == (3, False, True)


def test_a_point_whose_time_is_a_list_is_no_crash(upstream: Any, history: Callable[..., Any]) -> None:
    upstream.answers["/g/coins/bitcoin/market_chart/range"] = {"prices": [], "market_caps": [[[1], 2]], "total_volumes": [[{}, 3]]}
    done = history()
    assert (done.code, "Traceback" in done.err) == (0, False), done.err


def test_a_condition_that_no_server_would_take_is_not_sent(etl: Any, upstream: Any, offline: dict[str, str]) -> None:
    upstream.answers["/p/tickers"] = (
        200,
        {"Content-Type": "application/json", "Last-Modified": "x" * 50_000},
        upstream.answers["/p/tickers"],
    )
    for _ in range(2):
        assert etl("run", "--source", "coinpaprika", **offline).code == 0
    assert ["if-modified-since" in request["headers"] for request in upstream.log] == [False, False]
