"""Several processes on one backfill: none does a chunk twice, a dead one loses nothing, and one that was taken for dead writes nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.backfill import store
from etl.backfill.begin import begin_file
from etl.backfill.files import survey
from etl.backfill.load import load_chunk, validated
from etl.backfill.work import FileJob, read_block
from etl.errors import Fenced
from shared.db import Connection, connect
from shared.migrations import migrate

PICTURE = """
select 'price', source, external_id, observed_at::text, price_usd::text, backfilled_at::text from price_history
union all select 'raw', source, encode(sha256, 'hex'), '', '', '' from raw_payloads
union all select 'quarantined', source, convert_from(record, 'utf8'), errors::text, '', '' from quarantined_records
order by 1, 2, 3, 4
"""
LEFT = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'kasparro-etl'"
COUNT = 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Prices of one asset, some of them no prices, some twice with different figures."""
    start, dice, file = datetime(2026, 1, 30, tzinfo=UTC), random.Random(5), tmp_path / "a.csv"
    moments = [start + timedelta(minutes=n) for n in range(COUNT)]
    lines = [f"{at:%Y-%m-%d %H:%M:%S},{'none yet' if n % 97 == 0 else n + 1}.5\n" for n, at in enumerate(moments)]
    lines += [f"{dice.choice(moments):%Y-%m-%d %H:%M:%S},{n}.25\n" for n in range(300)]
    file.write_text("date,close\n" + "".join(lines))
    os.utime(file, (1_700_000_000, 1_700_000_000))
    return file


def start(dsn: str, path: Path) -> subprocess.Popen[bytes]:
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, "ETL_BATCH_SIZE": "60"}
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "backfill", "--file", str(path), "--asset", "a"]
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE)


def ended(*processes: subprocess.Popen[bytes]) -> list[int]:
    """Wait for processes to end; give their codes."""
    for process in processes:
        process.communicate(timeout=100)
    return [process.returncode for process in processes]


def picture(conn: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in conn.execute(PICTURE.encode()).fetchall()]


def one(conn: Connection, query: str) -> tuple[Any, ...]:
    row = conn.execute(query.encode()).fetchone()
    assert row
    return tuple(row.values())


@pytest.fixture
def clean(empty_dsn: str, path: Path) -> list[tuple[Any, ...]]:
    """What one process makes of the file, undisturbed."""
    with connect(empty_dsn, "tests") as conn:
        migrate(conn)
        assert ended(start(empty_dsn, path)) == [0]
        return picture(conn)


def test_two_processes_share_a_file_and_none_does_a_chunk_twice(
    dsn: str, conn: Connection, path: Path, clean: list[tuple[Any, ...]]
) -> None:
    both = [start(dsn, path) for _ in range(2)]
    assert ended(*both) == [0, 0]
    assert picture(conn) == clean
    assert one(conn, "select count(*), max(attempts), min(state) from backfill_chunks") == (55, 1, "done")
    assert one(conn, "select count(*) from backfills") == (1,)
    assert one(conn, "select sum(records_extracted)::int, sum(records_quarantined)::int as bad from etl_runs") == (COUNT + 300, 31)


@pytest.mark.parametrize("seed", range(3))
def test_both_killed_at_random_and_resumed_is_as_if_nothing_had_happened(
    dsn: str, conn: Connection, path: Path, clean: list[tuple[Any, ...]], seed: int
) -> None:
    dice = random.Random(seed)
    for _ in range(3):
        both = [start(dsn, path) for _ in range(2)]
        wanted = dice.randrange(1, 25) + int(one(conn, "select count(*) from backfill_chunks where state = 'done'")[0])
        while one(conn, "select count(*) from backfill_chunks where state = 'done'")[0] < wanted and both[0].poll() is None:
            time.sleep(dice.random() / 100)
        for process in both:
            process.kill()
        ended(*both)
    while one(conn, LEFT)[0]:  # a killed process is known for dead once its session ends what it was at, which may be to begin
        time.sleep(0.01)
    both = [start(dsn, path) for _ in range(2)]
    assert ended(*both) == [0, 0]
    assert picture(conn) == clean
    assert one(conn, "select count(*) from etl_runs where status = 'running'") == (0,)
    assert one(conn, "select count(*) from backfill_workers") == (0,)
    assert one(conn, "select count(*) from etl_runs where status = 'abandoned'")[0] >= 1
    extracted = one(conn, "select sum(records_extracted)::int from etl_runs")
    assert extracted == one(conn, "select sum(records)::int from backfill_chunks") == (COUNT + 300,)


def test_the_run_of_one_that_died_meanwhile_is_closed_by_the_one_that_finds_nothing_left(dsn: str, conn: Connection, path: Path) -> None:
    with connect(dsn, "tests") as dying:
        lost = store.open_worker(dying, "csv")
        left = start(dsn, path)
        while not one(conn, "select count(*) from backfill_chunks where state = 'done'")[0]:
            time.sleep(0.01)
    assert ended(left) == [0]
    assert one(conn, f"select status from etl_runs where id = {lost.id}") == ("abandoned",)
    assert one(conn, "select count(*) from backfill_workers") == (0,)


def test_a_process_that_was_taken_for_dead_writes_nothing_more(dsn: str, conn: Connection, path: Path) -> None:
    found = survey(str(path), "csv", "a", 60)
    jobs = begin_file(conn, found)
    (job,) = jobs.values()
    assert isinstance(job, FileJob)
    with connect(dsn, "sleeper") as mine, connect(dsn, "heir") as other:
        sleeper, heir = store.open_worker(mine, "csv"), store.open_worker(other, "csv")
        chunk = store.take_chunk(mine, sleeper, list(jobs))
        assert chunk
        content = read_block(job, chunk)
        late = "update backfill_workers set lease_expires_at = now() - interval '1 s', backend_pid = null where run_id = %s"
        conn.execute(late, [sleeper.id])
        assert store.abandon_workers(other) == [sleeper.id]
        again = store.take_chunk(other, heir, list(jobs))
        assert again
        assert (again.number, again.epoch) == (chunk.number, chunk.epoch + 2)
        with pytest.raises(Fenced):
            load_chunk(mine, sleeper, chunk, content, validated(content))
        for write in (store.renew_worker, store.retake_worker):
            with pytest.raises(Fenced):
                write(mine, sleeper)
        with pytest.raises(Fenced):
            store.end_chunk(mine, sleeper, chunk, "failed", "late")
        store.close_worker(mine, sleeper, "success", None, None)
        assert one(conn, "select count(*) from price_history") == (0,)
        assert load_chunk(other, heir, again, content, validated(content)).total == 60
    statuses = [row["status"] for row in conn.execute("select status from etl_runs order by id").fetchall()]
    assert statuses == ["abandoned", "running"]


def test_a_process_that_lost_its_connection_takes_its_chunk_again(dsn: str, conn: Connection, path: Path) -> None:
    jobs = begin_file(conn, survey(str(path), "csv", "a", 60))
    with connect(dsn, "first") as mine:
        run = store.open_worker(mine, "csv")
        chunk = store.take_chunk(mine, run, list(jobs))
    with connect(dsn, "second") as mine:
        store.retake_worker(mine, run)
        again = store.take_chunk(mine, run, list(jobs))
    assert chunk
    assert again
    assert (again.number, again.epoch > chunk.epoch) == (chunk.number, True)


def test_a_stopped_process_is_waited_for_and_its_chunk_is_done_by_another(
    dsn: str, conn: Connection, path: Path, clean: list[tuple[Any, ...]]
) -> None:
    process = start(dsn, path)
    while not conn.execute("select 1 from backfill_chunks where state = 'done'").fetchall():
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    conn.execute("update backfill_workers set lease_expires_at = now() - interval '1 s'")
    assert ended(start(dsn, path)) == [0]
    process.send_signal(signal.SIGCONT)
    _, told = process.communicate(timeout=100)
    assert picture(conn) == clean
    if process.returncode:  # else it had been stopped after its last chunk
        assert b"taken for dead" in told or b"connection lost" in told or b"gave up" in told
