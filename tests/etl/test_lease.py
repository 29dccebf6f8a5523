"""The lease of a source between sessions: of other roles, and behind locks that others hold."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from etl import execute, locks
from etl.backfill import store
from etl.errors import Locked
from etl.lease import begin_run, finish_run
from shared.db import Connection, connect
from shared.roles import ensure_role
from sql import queries


@pytest.fixture
def roles(dsn: str, conn: Connection) -> Iterator[list[str]]:
    """The addresses of two roles that run the ETL, of which neither sees when the other's session began."""
    names = [f"etl_{uuid.uuid4().hex[:12]}" for _ in range(2)]
    made = [psycopg.conninfo.make_conninfo(dsn, user=name) for name in names]
    for address in made:
        ensure_role(conn, "etl", address)
    yield made
    for name in names:
        conn.execute(f"drop owned by {name}".encode())
        conn.execute(f"drop role {name}".encode())


def test_a_live_run_of_another_role_keeps_its_lease(conn: Connection, roles: list[str]) -> None:
    with connect(roles[0], "one") as one, connect(roles[1], "other") as other:
        begin_run(one, "csv", "cli")
        store.open_worker(one, "csv")
        with pytest.raises(Locked):
            begin_run(other, "csv", "cli")
        store.abandon_workers(other)
    assert conn.execute("select status, count(*) as n from etl_runs group by status").fetchall() == [{"status": "running", "n": 2}]


@pytest.mark.parametrize("lock", ["lock table etl_runs in share mode", "select from etl_checkpoints where source = 'test' for update"])
def test_the_end_of_a_run_behind_a_lock_is_not_waited_for_without_a_bound(
    world: Any, coins: Callable[..., Any], dsn: str, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setitem(queries, "bound_batch", queries["bound_batch"].replace(b"'10s'", b"'50ms'"))
    monkeypatch.setattr(execute, "RETRY", 0.01)
    world.bodies = [coins(5)]
    tried = list[int]()
    with connect(dsn, "locker") as locker:
        locker.autocommit = False

        def finish(*args: Any, **told: Any) -> None:
            tried.append(1)
            if len(tried) == 1:
                locker.execute(lock.encode())
            if len(tried) == 4:
                locker.rollback()
            finish_run(*args, **told)

        monkeypatch.setattr(execute, "finish_run", finish)
        patience = threading.Timer(20, locker.rollback)
        patience.start()
        assert world.run().status == "success"
        patience.cancel()
    assert len(tried) == 4
    assert world.rows("select status, lease_expires_at from etl_runs, etl_checkpoints") == [("success", None)]


def test_a_row_of_the_lease_that_another_holds_ends_the_wait_as_any_lock_does(
    world: Any, coins: Callable[..., Any], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, long in (("bound_batch", b"'10s'"), ("bound_load", b"'4s'")):
        monkeypatch.setitem(queries, name, queries[name].replace(long, b"'50ms'"))
    monkeypatch.setattr(locks, "LONGEST", 0.3)
    monkeypatch.setattr(execute, "RETRY", 0.01)
    world.bodies, world.batch_size = [coins(20)], 10
    with connect(dsn, "locker") as locker:
        locker.autocommit = False
        held = list[Any]()

        def hold(_told: Any) -> None:
            if not held:
                held.append(locker.execute("select from etl_checkpoints for update"))

        world.seen = SimpleNamespace(append=hold)
        threading.Timer(2.0, locker.rollback).start()
        outcome = world.run()
    assert (outcome.status, type(outcome.error).__name__) == ("failed", "Blocked")
    world.seen = []
    assert world.run().status == "success"
    assert world.rows("select count(*) from unified_data") == [(20,)]
