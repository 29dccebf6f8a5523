"""The worker's loop: what it executes in which order, what wakes it, what it outlives."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from etl import worker
from etl.chaos import Chaos
from etl.errors import Stopped
from etl.lease import begin_run, finish_run
from etl.stop import on_signals
from etl.work import Options, Outcome, Work
from shared.db import connect
from shared.db import reconnect as again
from shared.errors import DatabaseError
from shared.settings import Settings

KILL = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'world' and datname = current_database()"


@pytest.fixture
def works(world: Any, coins: Any) -> dict[str, Work]:
    """Two sources with a few records each."""
    world.bodies = [coins(3)]
    source, options = world.source, Options(100)
    return {
        name: Work(world.link, replace(source, name=name), Settings(), options, world.stop, lambda _: None, str, Chaos())
        for name in ("one", "two")
    }


def queue(world: Any, *sources: str) -> None:
    """Queue a run of each source."""
    world.conn.execute("insert into etl_runs (source, trigger, status) select unnest(%s::text[]), 'api', 'queued'", [list(sources)])


def drained(world: Any, works: dict[str, Work]) -> list[tuple[str, str | None, int | None]]:
    return [(outcome.source, outcome.status, outcome.run_id) for outcome in worker.drain(world.link, world.stop, works)]


def attended(world: Any, works: dict[str, Work], count: int) -> list[Outcome]:
    """What a worker that stays does, until it has executed `count` runs."""
    found: Iterator[Outcome] = worker.attend(world.link, world.stop, works)
    return list(itertools.islice(found, count))


def test_the_oldest_request_comes_first(world: Any, works: dict[str, Work]) -> None:
    queue(world, "two", "one", "two")
    assert drained(world, works) == [("two", "success", 1), ("one", "success", 2), ("two", "success", 3)]
    assert world.rows("select status, trigger, records_extracted from etl_runs order by id") == [
        ("success", "api", 3),
        ("success", "api", 3),
        ("success", "api", 0),
    ]


def test_a_source_this_version_does_not_know_stays_queued(world: Any, works: dict[str, Work]) -> None:
    queue(world, "three", "one")
    assert drained(world, works) == [("one", "success", 2)]
    assert world.rows("select status from etl_runs where source = 'three'") == [("queued",)]


def test_a_held_source_is_passed_by_and_nothing_of_it_is_touched(world: Any, works: dict[str, Work], dsn: str) -> None:
    queue(world, "one", "two")
    with connect(dsn, "holder") as other:
        begin_run(other, "one", "cron")
        assert drained(world, works) == [("two", "success", 2)]
        assert world.rows("select status from etl_runs where id = 1") == [("queued",)]
    world.conn.execute("update etl_checkpoints set lease_expires_at = null")
    world.conn.execute("update etl_runs set status = 'failed', finished_at = now() where status = 'running'")
    assert drained(world, works) == [("one", "success", 1)]


def test_what_another_worker_took_in_between_is_passed_by(world: Any, works: dict[str, Work], monkeypatch: pytest.MonkeyPatch) -> None:
    queue(world, "two")
    monkeypatch.setattr(worker, "list_queued", lambda _conn, names: [name for name in ("one", "two") if name in names])
    assert drained(world, works) == [("two", "success", 1)]
    assert world.rows("select count(*) from etl_runs") == [(1,)]
    assert world.rows("select epoch, lease_expires_at from etl_checkpoints where source = 'one'") == []


def test_a_run_that_a_request_is_just_joining_is_executed_afterwards(world: Any, works: dict[str, Work], dsn: str) -> None:
    queue(world, "one")
    with connect(dsn, "api") as other:
        with other.transaction():
            other.execute("select from etl_runs for update")
            assert drained(world, works) == []
        assert drained(world, works) == [("one", "success", 1)]


def test_a_stopped_worker_begins_nothing(world: Any, works: dict[str, Work]) -> None:
    queue(world, "one")
    world.stop.asked = True
    assert drained(world, works) == []
    with pytest.raises(Stopped):
        attended(world, works, 1)


def test_without_notifications_it_looks_now_and_then(world: Any, works: dict[str, Work], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "backend", lambda _: None)
    monkeypatch.setattr(worker, "POLL", 0.05)
    timer = threading.Timer(0.2, lambda: queue(world, "one"))
    timer.start()
    assert [outcome.source for outcome in attended(world, works, 1)] == ["one"]
    timer.join()


def test_it_outlives_a_lost_connection_and_says_so_once(
    world: Any, works: dict[str, Work], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "RETRY", 0.01)
    failing = itertools.count()

    def reconnect(link: Any) -> None:
        if next(failing) < 5:
            raise DatabaseError("still gone", passing=True)
        again(link)
        queue(world, "two")

    monkeypatch.setattr(worker, "reconnect", reconnect)
    timer = threading.Timer(0.2, lambda: world.rows(KILL))
    timer.start()
    assert [outcome.source for outcome in attended(world, works, 1)] == ["two"]
    timer.join()
    logged = capsys.readouterr().out
    assert (logged.count("database lost"), logged.count("database found")) == (1, 1)


def test_a_loss_that_does_not_pass_ends_it(world: Any, works: dict[str, Work], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_told: Any) -> list[str]:
        raise DatabaseError("no such role")

    monkeypatch.setattr(worker, "list_queued", refuse)
    with pytest.raises(DatabaseError, match="no such role"):
        attended(world, works, 1)


def test_each_try_of_a_request_is_counted_and_the_last_one_is_the_end(world: Any, works: dict[str, Work]) -> None:
    queue(world, "one")
    for _ in range(12):
        begun = list(itertools.islice(worker.list_queued(world.conn, ["one"]), 1))
        if begun:
            begin_run(world.conn, "one", "api", queued=True)
            world.conn.execute("update etl_checkpoints set lease_expires_at = now() - interval '1 s'")
    rows = world.rows("select attempt, status, resumed_from from etl_runs order by id")
    assert rows[:2] == [(1, "abandoned", None), (2, "abandoned", 1)]
    assert rows[9:] == [(10, "running", 9)]
    assert drained(world, works) == []


def test_a_signal_wakes_it(world: Any, works: dict[str, Work]) -> None:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(Stopped) as stopped, on_signals() as stop:
        list(worker.attend(world.link, stop, works))
    timer.join()
    assert stopped.value.signal == signal.SIGTERM


@pytest.mark.parametrize("left", ["cancelled", "abandoned"])
def test_a_request_that_was_not_done_is_not_lost_behind_a_replay(world: Any, works: dict[str, Work], left: str) -> None:
    queue(world, "one")
    begin_run(world.conn, "one", "api", queued=True)
    world.conn.execute("update etl_runs set status = %s, finished_at = now()", [left])
    world.conn.execute("update etl_checkpoints set lease_expires_at = null")
    finish_run(world.conn, begin_run(world.conn, "one", "replay"), "success")
    assert drained(world, works) == [("one", "success", 3)]
    assert world.rows("select trigger, attempt, resumed_from from etl_runs order by id") == [
        ("api", 1, None),
        ("replay", 1, None),
        ("api", 2, 1),
    ]
