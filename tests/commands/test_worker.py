"""`kasparro-etl worker` as a process: what it executes, how it waits, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.lease import begin_run
from shared.db import Connection

CSV = "id,symbol,name,price\nbitcoin,BTC,Bitcoin,50000.10\nether,ETH,Ether,3000\n"
STATES = "select id, source, status, trigger, records_extracted, resumed_from, attempt from etl_runs order by id"
WAITING = """select pid from pg_stat_activity where datname = current_database() and application_name = 'kasparro-etl'
             and state = 'idle' and query like '%min(r.id) as first%'"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def world(offline: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Four sources that answer, as the environment that points at them."""
    (tmp_path / "assets.csv").write_text(CSV)
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv")}


@pytest.fixture
def start(dsn: str, world: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start a worker that runs until the test ends."""
    begun = list[subprocess.Popen[str]]()

    def start(*args: str, **environ: str) -> subprocess.Popen[str]:
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn}
        command = [str(Path(sys.executable).parent / "kasparro-etl"), "worker", *args]
        begun.append(subprocess.Popen(command, env=bare | world | environ, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def queue(conn: Connection, *sources: str) -> None:
    """Queue a run of each source as the API does."""
    conn.execute("select * from enqueue_run(%s::text[], null, null)", [list(sources)])


def states(conn: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in conn.execute(STATES.encode()).fetchall()]


def until(conn: Connection, truth: Callable[[], Any]) -> Any:
    """Wait for something to become true, for a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := truth():
            return found
        time.sleep(0.02)
    raise AssertionError(states(conn))


def listener(conn: Connection) -> Any:
    """The server's process of a worker that waits."""
    return conn.execute(WAITING.encode()).fetchone()


def test_once_executes_what_is_queued_and_exits(etl: Any, world: dict[str, str], conn: Connection) -> None:
    queue(conn, "rss", "csv")
    done = etl("worker", "--once", **world)
    assert (done.code, done.out) == (0, ""), done.err
    assert states(conn) == [(1, "rss", "success", "api", 1, None, 1), (2, "csv", "success", "api", 2, None, 1)]
    assert [(line["event"], line["source"], line["run_id"]) for line in done.logged] == [
        ("run finished", "rss", 1),
        ("run finished", "csv", 2),
    ]
    assert conn.execute("select host, pid, version, requested_at <= started_at as later from etl_runs where id = 1").fetchone()["later"]  # type: ignore[index]


def test_once_without_anything_queued_says_nothing(etl: Any, world: dict[str, str]) -> None:
    done = etl("worker", "--once", **world)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_once_ends_in_3_when_a_run_failed_and_executes_the_others(etl: Any, world: dict[str, str], conn: Connection) -> None:
    queue(conn, "coingecko", "csv")
    assert etl("worker", "--once", **world | {"COINGECKO_BASE_URL": "http://127.0.0.1:9"}).code == 3
    assert [state[2] for state in states(conn)] == ["failed", "success"]


def test_a_source_that_another_run_holds_stays_queued(etl: Any, world: dict[str, str], conn: Connection) -> None:
    begin_run(conn, "csv", "cli")
    queue(conn, "csv", "rss")
    assert etl("worker", "--once", **world).code == 0
    assert [state[1:3] for state in states(conn)] == [("csv", "running"), ("csv", "queued"), ("rss", "success")]


def test_a_waiting_worker_is_woken_by_a_request_and_stops_at_once_when_told(start: Start, conn: Connection) -> None:
    process = start()
    until(conn, lambda: listener(conn))
    queue(conn, "csv")
    asked = time.monotonic()
    until(conn, lambda: states(conn)[0][2] == "success")
    waited = time.monotonic() - asked
    until(conn, lambda: listener(conn))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    logged = [json.loads(line) for line in process.stderr or ()]
    assert [line["event"] for line in logged] == ["worker started", "run finished"]
    assert waited < 9  # less than it sleeps between two looks of its own


def test_a_waiting_worker_outlives_the_loss_of_its_connection(start: Start, conn: Connection) -> None:
    process = start()
    lost = until(conn, lambda: listener(conn))["pid"]
    conn.execute("select pg_terminate_backend(%s)", [lost])
    queue(conn, "csv")
    until(conn, lambda: states(conn)[0][2] == "success")
    assert process.poll() is None


@pytest.mark.parametrize(("number", "closed"), [(signal.SIGKILL, "abandoned"), (signal.SIGTERM, "cancelled")])
def test_a_request_whose_worker_went_away_is_gone_on_with(
    start: Start, etl: Any, world: dict[str, str], conn: Connection, upstream: Any, number: int, closed: str
) -> None:
    answer, asked, gone = upstream.answers["/feed"], threading.Event(), threading.Event()

    def slow(_request: Any) -> Any:
        asked.set()
        gone.wait(60)
        return answer

    upstream.answers["/feed"] = slow
    queue(conn, "rss")
    process = start()
    assert asked.wait(60)
    process.send_signal(number)
    assert process.wait(timeout=30) == (143 if number == signal.SIGTERM else -number)
    gone.set()
    queue(conn, "rss")
    until(conn, lambda: etl("worker", "--once", **world).code == 0 and not any(s[2] == "queued" for s in states(conn)))
    assert [(state[0], *state[2:]) for state in states(conn)] == [
        (1, closed, "api", 0, None, 1),
        (2, "success", "api", 1, None, 1),
        (3, "success", "api", 1, 1, 2),
    ]
    assert [row["id"] for row in conn.execute("select id from etl_runs order by started_at").fetchall()] == [1, 3, 2]


def test_what_a_run_of_the_command_line_has_taken_over_is_not_done_again(etl: Any, world: dict[str, str], conn: Connection) -> None:
    queue(conn, "csv")
    conn.execute("update etl_runs set status = 'running', started_at = now()")
    conn.execute("insert into etl_checkpoints (source, run_id, epoch) values ('csv', 1, 1)")
    assert etl("run", "--source", "csv", **world).code == 0
    assert etl("worker", "--once", **world).code == 0
    assert [state[1:4] for state in states(conn)] == [("csv", "abandoned", "api"), ("csv", "success", "cli")]


def test_a_request_that_kills_its_worker_each_time_is_given_up(etl: Any, world: dict[str, str], conn: Connection) -> None:
    queue(conn, "csv")
    conn.execute("update etl_runs set status = 'running', started_at = now(), attempt = 10")
    conn.execute("insert into etl_checkpoints (source, run_id, epoch) values ('csv', 1, 1)")
    assert etl("worker", "--once", **world).code == 0
    assert [state[2] for state in states(conn)] == ["running"]
    queue(conn, "csv")
    assert etl("worker", "--once", **world).code == 0
    assert [(state[2], state[6]) for state in states(conn)] == [("abandoned", 10), ("success", 1)]


def test_four_workers_share_a_long_queue_and_execute_each_run_once(start: Start, conn: Connection) -> None:
    conn.execute("insert into etl_runs (source, trigger, status) select 'csv', 'api', 'queued' from generate_series(1, 40)")
    for process in [start("--once") for _ in range(4)]:
        process.wait(timeout=60)
    start("--once").wait(timeout=60)
    assert {state[2] for state in states(conn)} == {"success"}
    assert len(states(conn)) == 40
