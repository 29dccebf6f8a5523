"""`kasparro-etl runs`: what ran, one run in full, two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from etl.lease import begin_run, finish_run
from shared.db import Connection
from sql import queries

CSV = "id,symbol,name,price\n" + "".join(f"c{n},C{n},Coin {n},{n}\n" for n in range(30))


@pytest.fixture
def world(offline: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "assets.csv").write_text(CSV)
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv")}


def end(conn: Connection, source: str, status: Any, records: int = 0, **told: Any) -> int:
    run = begin_run(conn, source, "cli")
    conn.execute("update etl_runs set records_extracted = %s, records_inserted = %s where id = %s", [records, records, run.id])
    finish_run(conn, run, status, **told)
    return run.id


def test_runs_are_listed_newest_first_and_filtered(etl: Any, conn: Connection) -> None:
    for source, status in (("csv", "success"), ("rss", "failed"), ("csv", "failed")):
        end(conn, source, status, error_message="the reason" if status == "failed" else None)
    assert [row["id"] for row in etl("runs", "list", "--json").objects] == [3, 2, 1]
    assert [row["id"] for row in etl("runs", "list", "--json", "--source", "csv", "--status", "failed").objects] == [3]
    assert [row["id"] for row in etl("runs", "list", "--json", "--limit", "1").objects] == [3]
    table = etl("runs", "list").out.splitlines()
    assert len(table) == 4
    assert table[1].split()[:3] == ["3", "csv", "failed"]
    assert table[1].endswith("the reason")


def test_without_runs_that_is_said_and_no_error(etl: Any) -> None:
    done = etl("runs", "list")
    assert (done.code, done.out, done.err) == (0, "", "nothing has run yet: kasparro-etl run --source all\n")


def test_a_run_is_shown_with_its_counts_host_version_and_batches(etl: Any, world: dict[str, str]) -> None:
    etl("run", "--source", "csv", "--batch-size", "10", **world)
    (row,) = etl("runs", "show", "1", "--json").objects
    assert (row["records_inserted"], row["batches"], row["bytes_extracted"], row["trigger"]) == (30, 3, len(CSV), "cli")
    assert row["host"]
    assert row["version"]
    assert [(one["first_position"], one["next_position"], one["inserted"]) for one in row["latest_batches"]] == [
        (20, 30, 10),
        (10, 20, 10),
        (0, 10, 10),
    ]
    told = etl("runs", "show", "1").out
    assert "records_inserted     30" in told
    assert "21-30" in told
    assert len(etl("runs", "show", "1", "--batches", "1", "--json").objects[0]["latest_batches"]) == 1


def test_an_interrupted_run_and_the_one_that_went_on_name_each_other(etl: Any, world: dict[str, str]) -> None:
    etl("run", "--source", "csv", "--batch-size", "10", **world, ETL_FAIL_AFTER_N_RECORDS="10")
    etl("run", "--source", "csv", **world)
    assert etl("runs", "show", "1", "--json").objects[0]["resumed_by"] == 2
    assert etl("runs", "show", "2", "--json").objects[0]["resumed_from"] == 1
    assert "FailureInjected" in etl("runs", "show", "1").out


def test_a_run_that_does_not_exist_is_exit_2_with_the_next_step(etl: Any) -> None:
    for words in (["show", "7"], ["compare", "7", "8"]):
        done = etl("runs", *words)
        assert (done.code, "there is no run 7: see kasparro-etl runs list" in done.err) == (2, True)


def test_two_runs_are_compared_by_every_count_and_what_is_unusual_is_told(etl: Any, conn: Connection) -> None:
    usual = [end(conn, "csv", "success", records=100) for _ in range(3)]
    odd = end(conn, "csv", "failed", records=20, error_message="the reason")
    (told,) = etl("runs", "compare", str(usual[-1]), str(odd), "--json").objects
    assert told["differences"]["records_extracted"] == {"absolute": -80, "percent": -80.0}
    assert [(one["rule"], one["run_id"]) for one in told["anomalies"]] == [("run_failed", odd), ("record_count", odd)]
    printed = etl("runs", "compare", str(usual[-1]), str(odd)).out
    assert "-80%" in printed
    assert f"! run {odd}: run {odd} ended as failed: the reason" in printed


def test_the_run_that_went_on_with_another_is_found_by_an_index(conn: Connection) -> None:
    conn.execute("set enable_seqscan = off")
    plan = psycopg.ClientCursor(conn).execute(b"explain " + queries["get_run_facts"], {"run_id": 1}).fetchall()
    assert "etl_runs_by_resumed" in "\n".join(str(row) for row in plan)
