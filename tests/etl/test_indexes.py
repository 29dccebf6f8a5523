"""The indexes that reads need: made by the first command that leaves records, whoever it is and whatever it meets."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.indexes import make_read_indexes
from etl.stop import Stop, on_signals
from shared.db import Connection, connect
from shared.migrations import migrate
from sql import Migration, read_migrations
from tests.conftest import RECORD

CSV = "id,symbol,name,price\nbitcoin,BTC,Bitcoin,50000.10\n"
WAITING = """select count(*) as n from pg_stat_activity
             where query like '%make_read_index()%' and state = 'active' and pid <> pg_backend_pid()"""
WANTED = ["by_category", "by_id", "by_market_cap", "by_name", "by_price", "by_rank", "by_symbol", "by_updated_at", "by_words", "inactive"]


@pytest.fixture
def bare(empty_dsn: str) -> Iterator[Connection]:
    """A connection to a database as `migrate` makes it."""
    with connect(empty_dsn, "tests") as conn:
        migrate(conn)
        yield conn


@pytest.fixture
def environ(empty_dsn: str, tmp_path: Path) -> dict[str, str]:
    """A run of one file into that database, as its environment."""
    (tmp_path / "assets.csv").write_text(CSV)
    return {"DATABASE_URL": empty_dsn, "CSV_PATHS": str(tmp_path / "assets.csv")}


def made(conn: Connection) -> list[str]:
    """The indexes of unified_data that no constraint made."""
    rows = conn.execute("select indexname as name from pg_indexes where tablename = 'unified_data' order by 1").fetchall()
    return [row["name"].removeprefix("unified_data_") for row in rows if not row["name"].endswith(("_key", "_pkey"))]


def test_the_first_run_that_leaves_records_makes_them(etl: Any, bare: Connection, environ: dict[str, str]) -> None:
    assert made(bare) == []
    assert etl("run", "--source", "csv", **environ).code == 0
    assert made(bare) == WANTED


@pytest.mark.parametrize(
    ("command", "wanted"),
    [(("run", "--source", "csv", "--dry-run"), []), (("run", "--source", "csv"), WANTED), (("quarantine", "retry"), WANTED)],
)
def test_records_that_a_killed_command_left_get_theirs_by_the_next_that_may_write(
    etl: Any, bare: Connection, environ: dict[str, str], command: tuple[str, ...], wanted: list[str]
) -> None:
    bare.execute(RECORD)
    assert etl(*command, **environ).code == 0
    assert made(bare) == wanted


def test_a_run_that_finds_nothing_leaves_the_first_records_to_another(etl: Any, bare: Connection, environ: dict[str, str]) -> None:
    Path(environ["CSV_PATHS"]).write_text(CSV.splitlines()[0] + "\n")
    etl("run", "--source", "csv", **environ)
    assert made(bare) == []


def test_a_run_that_fails_makes_them_too(etl: Any, bare: Connection, environ: dict[str, str]) -> None:
    assert etl("run", "--source", "csv", **environ | {"ETL_FAIL_AFTER_N_RECORDS": "1"}).code == 3
    assert made(bare) == WANTED


def test_a_backfill_makes_them(etl: Any, bare: Connection, environ: dict[str, str]) -> None:
    file = Path(environ["CSV_PATHS"])
    file.write_text("symbol,name,price,date\nBTC,Bitcoin,1.5,2019-03-01\n")
    assert etl("backfill", "--file", str(file), "--plan", **environ).code == 0
    assert made(bare) == []
    assert etl("backfill", "--file", str(file), **environ).code == 0
    assert made(bare) == WANTED


def test_a_worker_makes_them(etl: Any, bare: Connection, environ: dict[str, str]) -> None:
    bare.execute("select * from enqueue_run(array['csv'], null, null)")
    assert etl("worker", "--once", **environ).code == 0
    assert made(bare) == WANTED


def test_what_a_writer_keeps_from_being_made_is_made_by_the_next_run(
    etl: Any, bare: Connection, empty_dsn: str, environ: dict[str, str]
) -> None:
    bare.execute("alter function make_read_index() set lock_timeout = '50ms'")
    with connect(empty_dsn, "tests") as writer, writer.transaction():
        writer.execute("lock table unified_data in row exclusive mode")
        done = etl("run", "--source", "csv", **environ)
    (told,) = [line for line in done.logged if line["event"] == "indexes left"]
    assert (done.code, told["level"], "the next run" in told["reason"]) == (0, "warning", True)
    assert made(bare) == []
    assert etl("run", "--source", "csv", **environ).code == 0
    assert made(bare) == WANTED


def test_one_session_makes_them_and_another_does_not_wait_for_it(bare: Connection, empty_dsn: str) -> None:
    bare.execute(RECORD)
    with connect(empty_dsn, "tests") as busy, busy.transaction():
        busy.execute("select make_read_index()")
        make_read_indexes(bare, Stop())
        assert made(bare) == []
    make_read_indexes(bare, Stop())
    assert made(bare) == WANTED


def test_a_stop_ends_the_wait_and_the_server_stops_too(bare: Connection, empty_dsn: str) -> None:
    bare.execute(RECORD)
    with connect(empty_dsn, "tests") as conn, connect(empty_dsn, "tests") as writer, writer.transaction():
        writer.execute("lock table unified_data in row exclusive mode")
        threading.Timer(0.5, signal.raise_signal, [signal.SIGTERM]).start()
        with on_signals() as stop:
            make_read_indexes(conn, stop)
        assert stop.signal == signal.SIGTERM
        until = time.monotonic() + 5
        while bare.execute(WAITING).fetchall()[0]["n"] and time.monotonic() < until:
            time.sleep(0.02)
        assert bare.execute(WAITING).fetchall()[0]["n"] == 0
    assert made(bare) == []


def test_after_a_stop_nothing_is_begun(bare: Connection) -> None:
    bare.execute(RECORD)
    stop = Stop()
    stop.asked = True
    make_read_indexes(bare, stop)
    assert made(bare) == []


@pytest.mark.parametrize("filled", [True, False])
def test_a_database_that_has_records_keeps_its_indexes_when_it_is_migrated(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch, filled: bool
) -> None:
    before: list[Migration] = [step for step in read_migrations() if step.name < "0017"]
    with connect(empty_dsn, "tests") as conn:
        with monkeypatch.context() as patch:
            patch.setattr("shared.migrations.read_migrations", lambda: before)
            migrate(conn)
        assert made(conn) == [name for name in WANTED if name != "by_symbol"]
        if filled:
            conn.execute(RECORD)
        migrate(conn)
        assert made(conn) == (WANTED if filled else [])
