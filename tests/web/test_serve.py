"""Gunicorn as `make serve` starts it: two workers, signals, the embedded database, requests that are none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from shared.db import Connection

REFUSED = [
    (b"GET /runs?source=" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /runs HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    (b"hello\nlevel=error\r\n\r\n", 400),
    (b"GET /runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"GET /runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
]


def exchange(url: str, sent: bytes) -> bytes:
    """Send bytes and read all that comes back until the other side closes."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_is_no_request_gets_a_problem_and_one_log_line(serve: Callable[..., Any], dsn: str) -> None:
    served = serve(API_DATABASE_URL=dsn)
    for sent, status in REFUSED:
        head, _, body = exchange(served.url, sent).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"application/problem+json" in head
        assert f'"status": {status}'.encode() in body
    assert [line["status"] for line in served.lines("request refused")] == [status for _, status in REFUSED]
    assert not any("level=error" in str(line) for line in served.lines())


def test_a_body_without_an_end_is_cut_off(serve: Callable[..., Any], dsn: str) -> None:
    served = serve(API_DATABASE_URL=dsn, API_KEY="correct-horse")
    headers = {"X-API-Key": "correct-horse", "Content-Type": "application/json"}
    sent = requests.post(f"{served.url}/etl/run", data=(b"x" * 1000 for _ in range(100)), headers=headers, timeout=20)
    assert (sent.status_code, sent.headers["Content-Type"]) == (413, "application/problem+json")


def test_workers_share_the_rate_limit_and_the_counters(serve: Callable[..., Any], dsn: str) -> None:
    served = serve(API_DATABASE_URL=dsn, API_RATE_LIMIT="20/3600")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: served.get("/runs").status_code, range(40)))
    assert (statuses.count(200), statuses.count(429)) == (20, 20)
    text = served.get("/metrics").text
    assert 'flask_http_request_total{method="GET",status="429"} 20.0' in text
    assert "pid=" not in text


def test_requests_under_way_are_answered_when_the_server_is_told_to_stop(serve: Callable[..., Any], dsn: str, conn: Connection) -> None:
    served = serve(API_DATABASE_URL=dsn)
    url = served.url
    with ThreadPoolExecutor(6) as pool:
        with conn.transaction():
            conn.execute("lock table etl_runs")
            asked = [pool.submit(requests.get, f"{url}/runs", timeout=20) for _ in range(6)]
            waiting = "select count(*) as n from pg_locks where not granted and relation = 'etl_runs'::regclass"
            deadline = time.monotonic() + 20
            while conn.execute(waiting).fetchone()["n"] < 6 and time.monotonic() < deadline:  # type: ignore[index]
                time.sleep(0.01)
            served.process.send_signal(signal.SIGTERM)
        assert {each.result().status_code for each in asked} <= {200, 503}
    assert served.process.wait(timeout=30) == 0


def test_a_reload_under_load_fails_no_request_on_the_embedded_database(serve: Callable[..., Any], embedded_home: Path) -> None:
    served = serve(KASPARRO_HOME=str(embedded_home))
    url, stop = served.url, threading.Event()

    def ask() -> list[int]:
        found = []
        while not stop.is_set():
            found.append(requests.get(f"{url}/stats", timeout=20).status_code)
        return found

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        time.sleep(0.5)
        served.process.send_signal(signal.SIGHUP)
        time.sleep(3)
        stop.set()
        statuses = [status for each in asking for status in each.result()]
    assert set(statuses) == {200}
    assert len({line["process"] for line in served.lines("server reported") if "Booting" in line["message"]}) == 4
    loaded = subprocess.run(
        [str(Path(sys.executable).parent / "kasparro-etl"), "run", "--source", "csv"],
        env={"PATH": os.environ["PATH"], "KASPARRO_HOME": str(embedded_home), "CSV_PATHS": f"{os.getcwd()}/data/*.csv"},
        capture_output=True,
        timeout=60,
    )
    assert loaded.returncode == 0
    assert served.get("/stats").json()["summary"]["runs_succeeded"] == 1


@pytest.mark.parametrize(("variable", "value"), [("PORT", "x"), ("API_RATE_LIMIT", "many"), ("API_CORS_ORIGINS", "*")])
def test_an_unusable_setting_is_one_line_and_exit_2(variable: str, value: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", "python:web.gunicorn_conf", "web.wsgi:app"]
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.getcwd(), variable: value}
    ended = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(f"{variable}: ")


def test_no_header_says_what_is_asked_for_or_from_where(serve: Callable[..., Any], dsn: str) -> None:
    served = serve(API_DATABASE_URL=dsn)
    for name, value in (("SCRIPT_NAME", "/x"), ("PATH_INFO", "/runs"), ("X-Forwarded-Prefix", "/x")):
        assert served.get("/health/live", headers={name: value}).json() == {"status": "alive"}
    assert served.get("/nothing", headers={"PATH_INFO": "/health/live"}).status_code == 404
    assert served.get("/health/live", headers={"X-Forwarded-Proto": "http", "X-Forwarded-Protocol": "ssl"}).ok
    assert not [line for line in served.lines() if line["level"] == "error"]
