"""Pings: the monitor is told of start and end, and never in a run's way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl import ping
from shared.settings import read_settings

CANARY = "c4n4ry-0000-1111"


@pytest.fixture
def world(offline: dict[str, str], upstream: Any, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "assets.csv").write_text("id,symbol,name,price\nbtc,BTC,Bitcoin,1.5\n")
    for what in ("start", "0", "1", "3", "4", "5", "130", "143"):
        upstream.answers[f"/{CANARY}/{what}"] = b"OK"
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv"), "HEALTHCHECK_PING_URL": f"{upstream.url}/{CANARY}"}


def pings(upstream: Any) -> list[str]:
    return [request["path"].split("/")[-1] for request in upstream.log if CANARY in request["path"]]


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/{CANARY}"


def test_start_and_exit_code_of_a_run_are_pinged(etl: Any, world: dict[str, str], upstream: Any) -> None:
    assert etl("run", "--source", "csv", "--quiet", **world).code == 0
    assert pings(upstream) == ["start", "0"]


def test_a_run_that_fails_pings_its_code(etl: Any, world: dict[str, str], upstream: Any) -> None:
    assert etl("run", "--source", "csv", **world | {"CSV_PATHS": "/nowhere/*.csv"}).code == 3
    assert pings(upstream) == ["start", "3"]


def test_a_database_that_is_gone_is_pinged_too(etl: Any, world: dict[str, str], upstream: Any) -> None:
    assert etl("run", "--source", "csv", **world | {"DATABASE_URL": "postgresql://127.0.0.1:1/none"}).code == 4
    assert pings(upstream) == ["start", "4"]


def test_a_run_that_is_stopped_pings_its_code(world: dict[str, str], upstream: Any, dsn: str) -> None:
    upstream.answers["/p/tickers"] = (503, {"Retry-After": "100"}, b"")
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "run", "--source", "coinpaprika"]
    with subprocess.Popen(
        command, env={"PATH": os.environ["PATH"], "DATABASE_URL": dsn, **world}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        while "request retried" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert (process.returncode, pings(upstream)) == (143, ["start", "143"])


def test_a_dry_run_and_a_replay_ping_nobody(etl: Any, world: dict[str, str], upstream: Any) -> None:
    etl("run", "--source", "csv", "--dry-run", **world)
    assert pings(upstream) == []
    etl("run", "--source", "csv", **world)
    etl("replay", **world)
    assert pings(upstream) == ["start", "0"]


def test_failed_pings_are_one_warning_without_the_address_and_fail_nothing(etl: Any, world: dict[str, str], upstream: Any) -> None:
    upstream.answers[f"/{CANARY}/start"] = (500, {}, b"")
    upstream.answers[f"/{CANARY}/0"] = (302, {"Location": f"{upstream.url}/elsewhere"}, b"")
    done = etl("run", "--source", "csv", **world)
    assert done.code == 0
    (warning,) = [row for row in done.logged if row["level"] == "warning"]
    assert (warning["event"], warning["pings"]) == ("ping failed", {"start": "answered 500", "0": "no answer"})
    assert CANARY not in done.err
    assert [request["path"] for request in upstream.log if "elsewhere" in request["path"]] == []


def test_a_monitor_that_does_not_answer_delays_a_run_by_its_timeout_at_the_most(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "TIMEOUT", 0.5)
    began = time.monotonic()
    with ping.pinged(read_settings({"HEALTHCHECK_PING_URL": deaf})) as told:
        entered = time.monotonic() - began
        told.code = 0
    assert entered < 0.5
    assert sorted(told.failed) == ["0", "start"]
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("url", "pinged"),
    [
        ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/start"),
        ("https://hc-ping.com/uuid/", "https://hc-ping.com/uuid/start"),
        ("https://hc-ping.com/key/slug?create=1", "https://hc-ping.com/key/slug/start?create=1"),
    ],
)
def test_a_query_stays_where_it_belongs(url: str, pinged: str) -> None:
    assert ping.address(url, "start") == pinged
