"""A database that locks, deadlocks, gives up or falls silent under a batch: the batch is tried again, nothing is lost or doubled."""

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
from structlog.testing import capture_logs

from etl import execute, locks, pipeline
from etl.commands.run import exit_code
from etl.errors import Stopped
from etl.lease import Counts, renew_lease
from etl.stop import Stop, on_signals
from shared.db import Connection, connect, reconnect
from shared.errors import DatabaseError
from sql import queries
from tests.trials import blackhole

Coins = Callable[..., list[dict[str, Any]]]
ASLEEP = "select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
WRITTEN = {
    "etl_checkpoints": (20, 1),
    "raw_payloads": (0, 2),
    "price_history": (20, 2),
    "unified_data": (20, 2),
    "quarantined_records": (10, 2),
    "etl_runs": (20, 1),
    "etl_batches": (20, 2),
}
"""Every table that a batch writes: after how many records it is struck twice, and how often that costs the batch, not the retaking."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "RETRY", 0.01)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the run was told each time the database gave up."""
    told, come_back = list[str](), execute.come_back

    def noted(work: Any, opened: Any, lost: DatabaseError) -> Any:
        told.append(str(lost))
        return come_back(work, opened, lost)

    monkeypatch.setattr(execute, "come_back", noted)
    return told


def bound(monkeypatch: pytest.MonkeyPatch, **limits: str) -> None:
    """Shorten the bounds of a batch, so that a test need not wait for the real ones."""
    for statement in ("bound_batch", "bound_load"):
        whole = queries[statement]
        for name, short in limits.items():
            long = {"lock_timeout": b"4s" if statement == "bound_load" else b"10s", "idle_in_transaction_session_timeout": b"30s"}[name]
            assert long in whole
            whole = whole.replace(b"'" + long + b"'", f"'{short}'".encode())
        monkeypatch.setitem(queries, statement, whole)


class Once(list[Any]):
    """A list that does something when its first entry comes."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__()
        self.act = act

    def append(self, entry: Any) -> None:
        """Note an entry."""
        if not self:
            self.act()
        super().append(entry)


def loaded_once(world: Any, losses: list[str], number: int) -> None:
    """The 30 coins of the test are there once each, the books balance, and the run is the only one."""
    assert len(losses) == number, losses
    assert world.rows("select count(*) as n, count(distinct external_id) as keys from unified_data") == [(30, 30)]
    assert world.rows("select count(*) from price_history") == [(30,)]
    assert world.rows("select count(*) as n, sum(next_position - first_position)::int as records from etl_batches") == [(4, 31)]
    assert world.rows("select status, records_inserted, records_quarantined from etl_runs") == [("partial", 30, 1)]
    assert world.rows("select count(*) as n, max(attempts) from quarantined_records") == [(1, 1)]


@pytest.mark.parametrize("mode", ["share", "access exclusive"])
def test_a_lock_held_for_longer_than_the_lock_timeout_is_waited_for_with_signs_of_life(
    world: Any, coins: Coins, dsn: str, monkeypatch: pytest.MonkeyPatch, losses: list[str], mode: str
) -> None:
    bound(monkeypatch, lock_timeout="50ms")
    world.bodies, world.batch_size = [[*coins(30), {"id": 7}]], 10
    renewed: list[int] = []

    def renew(conn: Connection, run: Any) -> None:
        renew_lease(conn, run)
        renewed.append(run.seq)
        if len(renewed) == 3:
            locker.rollback()

    monkeypatch.setattr(pipeline, "renew_lease", renew)
    with connect(dsn, "locker") as locker, capture_logs() as logged:
        locker.autocommit = False
        world.seen = Once(lambda: locker.execute(f"lock table unified_data in {mode} mode".encode()))
        assert world.run().status == "partial"
    assert renewed == [1, 1, 1]
    assert [(line["log_level"], "an index" in line["reason"]) for line in logged if line["event"] == "lock awaited"] == [("warning", True)]
    assert len(world.cursors) == 1, "upstream was asked again"
    loaded_once(world, losses, 0)


@pytest.mark.parametrize("mode", ["share", "access exclusive"])
def test_a_lock_that_stays_fails_the_run_which_the_next_one_continues(
    world: Any, coins: Coins, dsn: str, monkeypatch: pytest.MonkeyPatch, losses: list[str], mode: str
) -> None:
    bound(monkeypatch, lock_timeout="50ms")
    monkeypatch.setattr(locks, "LONGEST", 0.2)
    world.bodies, world.batch_size = [coins(30)], 10
    with connect(dsn, "locker") as locker:
        locker.autocommit = False
        world.seen = Once(lambda: locker.execute(f"lock table unified_data in {mode} mode".encode()))
        outcome = world.run()
    assert (outcome.status, outcome.counts, exit_code([outcome], world.stop, "fail")) == ("failed", Counts(inserted=10), 3)
    assert str(outcome.error).endswith("it was not gone after 0.2 s: what was committed is safe, run the same command again to go on")
    assert losses == []
    told = world.rows("select status, error_type, error_message, lease_expires_at from etl_runs, etl_checkpoints")
    assert told == [("failed", "Blocked", str(outcome.error), None)]
    assert world.run().counts == Counts(inserted=20)


def test_a_stop_ends_the_wait_for_a_lock(world: Any, coins: Coins, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(monkeypatch, lock_timeout="50ms")
    world.bodies = [coins(30)]
    with connect(dsn, "locker") as locker:
        locker.autocommit = False
        locker.execute("lock table unified_data in share mode")
        with on_signals() as world.stop:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            assert world.run().status == "cancelled"
    world.stop = Stop()
    assert world.run().counts == Counts(inserted=30)


def test_a_backfill_behind_the_making_of_an_index_goes_on_when_it_is_made(dsn: str, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("symbol,name,price\nETH,Ether,1.5\n")
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "backfill", "--file", "a.csv"]
    told = {"LOG_FORMAT": "json", "DATABASE_URL": dsn, "PATH": os.environ["PATH"]}
    with connect(dsn, "locker") as locker:
        locker.autocommit = False
        locker.execute("lock table unified_data in share mode")
        events = list[str]()
        with subprocess.Popen(command, env=told, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
            for line in running.stderr or ():
                events.append(json.loads(line)["event"])
                if events[-1] == "lock awaited":
                    locker.rollback()
    assert (running.returncode, events.count("lock awaited"), "database lost" in events) == (0, 1, False), events
    assert conn.execute("select count(*) as n from unified_data").fetchone() == {"n": 1}


@pytest.mark.parametrize("state", ["40001", "40P01"])
@pytest.mark.parametrize("table", WRITTEN)
def test_a_batch_that_loses_a_conflict_at_any_of_its_statements_is_done_again(
    world: Any, coins: Coins, losses: list[str], table: str, state: str
) -> None:
    after, costs = WRITTEN[table]
    world.conn.execute("create sequence strikes")
    world.conn.execute(
        "create function strike() returns trigger language plpgsql as $$begin"
        f" if (select coalesce(sum(next_position - first_position), 0) from etl_batches) = {after} and nextval('strikes') <= 2"
        f" then raise exception 'lost a conflict' using errcode = '{state}'; end if; return null; end$$".encode()
    )
    world.bodies, world.batch_size = [[*coins(19), {"id": 7}, *coins(11, first=19)]], 10
    world.conn.execute(f"create trigger strike after insert or update on {table} for each statement execute function strike()".encode())
    assert world.run().status == "partial"
    assert "lost a conflict" in losses[0]
    loaded_once(world, losses, costs)


def test_a_batch_that_postgres_picks_as_the_victim_of_a_deadlock_is_done_again(
    world: Any, coins: Coins, dsn: str, losses: list[str]
) -> None:
    world.bodies, world.batch_size = [[*coins(30), {"id": 7}]], 10
    with connect(dsn, "peer") as peer:
        peer.execute("set deadlock_timeout = '60s'")  # the batch looks for the cycle first, and finds it: the peer waits already
        peer.autocommit = False
        peer.execute("select pg_advisory_xact_lock(1)")
        world.conn.execute(
            "create function wait() returns trigger language plpgsql as $$begin"
            " while (select bool_and(granted) from pg_locks where pid = {0} having bool_or(locktype = 'advisory'))"
            " loop perform pg_sleep(0.005); end loop; perform pg_advisory_xact_lock(1); return null; end$$".replace(
                "{0}", str(peer.info.backend_pid)
            ).encode()
        )
        world.conn.execute("create trigger wait after insert on unified_data for each statement execute function wait()")

        def collide() -> None:
            while not world.rows(ASLEEP):
                pass
            peer.execute("update etl_checkpoints set updated_at = updated_at")
            peer.rollback()

        collider = threading.Thread(target=collide)
        collider.start()
        assert world.run().status == "partial"
        collider.join()
    assert "deadlock detected" in losses[0]
    loaded_once(world, losses, 1)


@pytest.fixture
def hole(dsn: str) -> Iterator[blackhole.Hole]:
    opened = blackhole.opened(dsn)
    yield opened
    opened.close()


@pytest.mark.parametrize("statement", [b"advance_checkpoint", b"upsert_unified", b"commit"])
def test_a_network_that_swallows_a_statement_without_a_word_is_noticed_and_the_run_goes_on(
    world: Any, coins: Coins, conn: Connection, monkeypatch: pytest.MonkeyPatch, losses: list[str], hole: blackhole.Hole, statement: bytes
) -> None:
    bound(monkeypatch, lock_timeout="100ms", idle_in_transaction_session_timeout="200ms")
    seen, text = list[bool](), {b"commit": b"COMMIT\0"}.get(statement) or queries[statement.decode()][:60]

    def watch(data: bytes) -> bool:
        if text in data:
            seen.append(True)
        return text in data and len(seen) == 2

    hole.watch = watch
    world.link.dsn = hole.address + "&tcp_user_timeout=500&keepalives_idle=1&keepalives_interval=1&keepalives_count=1"
    reconnect(world.link)
    world.bodies, world.batch_size = [[*coins(30), {"id": 7}]], 10
    assert world.run().status == "partial"
    assert "connection" in losses[0]
    loaded_once(world, losses, 1)


def test_a_request_to_stop_ends_a_run_whose_database_fell_silent_for_good(world: Any, coins: Coins, hole: blackhole.Hole) -> None:
    def watch(data: bytes) -> bool:
        if queries["upsert_unified"][:60] not in data:
            return False
        hole.swallow(for_good=True)
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    world.link.dsn = hole.address
    reconnect(world.link)
    world.bodies, hole.watch = [coins(30)], watch
    started = time.monotonic()
    with pytest.raises(Stopped), on_signals(grace=0.2) as world.stop:
        world.run()
    assert time.monotonic() - started < 20  # the database alone is waited for longer than that, three times over
