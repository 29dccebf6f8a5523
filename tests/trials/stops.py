"""Stops: SIGTERM at uniformly random moments of a run, or while its upstream hangs; the exit is timed and the run resumed."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shared.db import connect
from tests.trials.real import command
from tests.trials.resumes import FAST, SLOW, Timed
from tests.trials.stage import Stage, holder, until
from tests.trials.world import KINDS

PLATFORM = 10.0
"""Seconds after which platforms kill what was asked to end."""
WAITING = b"select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
HANGS = (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[")
"""What a hanging upstream has sent before it falls silent."""


def ended(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Ask a process to end and wait until it did; returns its exit code and the seconds it took."""
    asked = time.monotonic()
    process.terminate()
    try:
        code = process.wait(timeout=90)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    return code, time.monotonic() - asked


def wrong_after(dsn: str, kind: str, code: int, seconds: float) -> list[str]:
    """What does not hold of a process that was asked to end, before anything else runs."""
    with connect(dsn, "oracle") as conn:
        found = [row["status"] for row in conn.execute(b"select status from etl_runs").fetchall()]
        held = conn.execute(b"select from etl_checkpoints where lease_expires_at is not null").fetchone()
    wrong = [f"exit took {seconds:.1f} s"] if seconds > PLATFORM else []
    wrong += ["the lease was not released"] if held is not None else []
    if code == 143:
        return wrong + ([] if found in ([], ["cancelled"], ["success"], ["partial"]) else [f"exit 143, runs {found}"])
    # before the handler is set and after it is taken back, a signal ends the interpreter, which a shell also tells as 143
    right = (code == -signal.SIGTERM and found in ([], ["success"], ["partial"])) or (code == 0 and found in (["success"], ["partial"]))
    return wrong + ([] if right else [f"exit {code}, runs {found}"])


def whole(stage: Stage, kind: str) -> float:
    """Seconds a run takes as a process, with its batches slowed."""
    dsn = stage.world.copy("blank", "measured")
    with connect(dsn, "oracle") as conn:
        conn.execute(SLOW)
    started = time.monotonic()
    with command(stage, dsn, kind) as process:
        until(process.poll)
    return time.monotonic() - started


def stops(stage: Stage, rounds: int, spans: dict[str, float], *, inside: bool) -> Timed:
    """Stop runs at moments uniform over the whole process, or `inside` the time in which the lease is held.

    `spans` keeps the seconds that a whole process takes, by kind; what is missing is measured.
    """
    tally = Timed()
    for number in range(rounds):
        kind = KINDS[number % len(KINDS)]
        spans[kind] = spans.get(kind) or whole(stage, kind)
        dsn = stage.world.copy("blank", "stopped")
        with connect(dsn, "oracle") as conn, command_slowed(stage, conn, dsn, kind) as process:
            if inside:
                until(lambda conn=conn, kind=kind, process=process: True if holder(conn, kind) or process.poll() is not None else None)  # type: ignore[misc]
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=stage.dice.uniform(0, max(0.05, spans[kind] - 0.5) if inside else spans[kind]))
            landed = process.poll() is None
            code, seconds = ended(process)
            conn.execute(FAST)
        tally.landed += landed
        tally.seconds += [seconds] if landed else []
        stage.judge(tally, dsn, kind, f"stop of {kind}, round {number + 1}", wrong_after(dsn, kind, code, seconds))
    return tally


@contextmanager
def command_slowed(stage: Stage, conn: Any, dsn: str, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command line on a database whose commits are slow."""
    conn.execute(SLOW)
    with command(stage, dsn, kind) as process:
        yield process


@contextmanager
def hanging(said: bytes) -> Iterator[tuple[str, threading.Event]]:
    """An upstream that accepts, says no more than this, and never closes; lend its address and whether somebody asked."""
    asked, kept = threading.Event(), list[socket.socket]()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                kept.append(client)
                client.recv(65536)
                client.sendall(said)
                asked.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    for client in kept:
        client.close()


def hangs(stage: Stage, rounds: int) -> Timed:
    """Stop runs whose upstream hangs, before it answers or in the middle of a body."""
    tally = Timed()
    for number in range(rounds):
        kind, said = ("coinpaprika", "coingecko", "rss")[number % 3], HANGS[number // 3 % 2]
        dsn = stage.world.copy("blank", "hung")
        with hanging(said) as (address, asked):
            names = ("COINPAPRIKA_BASE_URL", "COINGECKO_BASE_URL", "RSS_FEED_URLS")
            with command(stage, dsn, kind, environ=stage.world.environ(0) | dict.fromkeys(names, address)) as process:
                landed = asked.wait(30)
                time.sleep(stage.dice.uniform(0, 0.2))
                code, seconds = ended(process)
        wrong = wrong_after(dsn, kind, code, seconds) + ([] if code == 143 else [f"exit {code}"])
        tally.landed += landed
        tally.seconds.append(seconds)
        stage.judge(tally, dsn, kind, f"stop of {kind} while its upstream hangs, round {number + 1}", wrong)
    return tally


def stuck(stage: Stage, rounds: int) -> Timed:
    """Stop runs whose batch waits for a table that somebody else has locked: the batch is undone and the run closed in time."""
    tally = Timed()
    for number in range(rounds):
        kind = KINDS[number % len(KINDS)]
        dsn = stage.world.copy("blank", "stuck")
        with connect(dsn, "oracle") as conn, connect(dsn, "locker") as locker, locker.transaction():
            locker.execute(b"lock table unified_data in access exclusive mode")
            with command(stage, dsn, kind) as process:
                until(lambda conn=conn: True if conn.execute(WAITING).fetchone() is not None else None)  # type: ignore[misc]
                code, seconds = ended(process)
        wrong = wrong_after(dsn, kind, code, seconds) + ([] if code == 143 else [f"exit {code}"])
        tally.landed += 1
        tally.seconds.append(seconds)
        stage.judge(tally, dsn, kind, f"stop of {kind} in a batch that is stuck, round {number + 1}", wrong)
    return tally
