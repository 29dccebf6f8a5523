"""The order of a file's rows decides what is served, whoever loads which part of it when, and whatever fails in between."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from etl.backfill import execute, store
from etl.backfill.begin import begin_file
from etl.backfill.files import survey
from etl.backfill.load import load_chunk, validated
from etl.backfill.work import FileJob, read_block
from etl.commands.backfill import backfill
from etl.errors import SourceError
from shared.db import Connection, connect

HEAD = "id,symbol,name,price"
BLOCKED = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def test_an_older_row_that_waits_for_a_newer_one_does_not_overwrite_it(dsn: str, conn: Connection, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"{HEAD},last_updated\nbtc,BTC,Bitcoin,1,2026-01-01T00:00:00Z\nbtc,BTC,Bitcoin,2,2026-02-01T00:00:00Z\n")
    conn.execute("select ensure_price_history(array['2026-01-01', '2026-02-01']::date[])")
    jobs = begin_file(conn, survey(str(file), "csv", None, 1))
    (job,) = jobs.values()
    assert isinstance(job, FileJob)
    assert not job.survey.in_order
    written, go = threading.Event(), threading.Event()

    def hold(point: str) -> None:
        if point == "before commit":
            written.set()
            assert go.wait(60)

    with connect(dsn, "one") as one, connect(dsn, "other") as other:
        workers = [store.open_worker(each, "csv") for each in (one, other)]
        older, newer = (store.take_chunk(each, worker, list(jobs)) for each, worker in zip((one, other), workers, strict=True))
        assert older
        assert newer
        assert older.number < newer.number
        contents = [read_block(job, chunk) for chunk in (older, newer)]
        loads = [
            threading.Thread(target=load_chunk, args=(other, workers[1], newer, contents[1], validated(contents[1], hold))),
            threading.Thread(target=load_chunk, args=(one, workers[0], older, contents[0], validated(contents[0]))),
        ]
        loads[0].start()
        assert written.wait(60)
        loads[1].start()
        while not conn.execute(BLOCKED).fetchall():
            pass
        go.set()
        for load in loads:
            load.join()
    assert conn.execute("select price_usd::text from unified_data").fetchall() == [{"price_usd": "2"}]
    counted = conn.execute("select sum(records_inserted)::int as new, sum(records_unchanged)::int as same from etl_runs").fetchone()
    assert counted == {"new": 1, "same": 1}


def test_a_part_that_cannot_be_read_for_a_moment_is_not_loaded_behind_those_that_follow(
    dsn: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("ETL_BATCH_SIZE", "2")
    file = tmp_path / "a.csv"
    file.write_text(f"{HEAD}\nbtc,BTC,Bitcoin,1\neth,ETH,Ether,1\nbtc,BTC,Bitcoin,2\neth,ETH,Ether,2\n")
    failed = list[Any]()

    def read_once_in_vain(job: FileJob, chunk: store.Chunk) -> Any:
        if not failed:
            failed.append(chunk)
            raise SourceError("cannot be read ([Errno 5] Input/output error): replace the file")
        return read_block(job, chunk)

    monkeypatch.setattr(execute, "read_block", read_once_in_vain)
    codes = [backfill.main(["--file", str(file)], standalone_mode=False) for _ in range(2)]
    assert codes == [3, 0]
    served = conn.execute("select external_id, price_usd::text from unified_data order by 1").fetchall()
    assert [tuple(row.values()) for row in served] == [("btc", "2"), ("eth", "2")]
