"""`GET /stats`, and the totals that triggers keep for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.db import Connection
from tests.web.world import add_run
from web import stats
from web.db import forget


def test_totals_of_runs_by_the_pipeline_agree_with_the_tables(client: FlaskClient, conn: Connection, filled: None) -> None:
    stats = client.get("/stats").get_json()
    stored = conn.execute("select count(*) as n from unified_data").fetchone()
    assert stored
    assert stored["n"] > 0
    assert stats["summary"]["records_total"] == stats["summary"]["records_processed"] == stored["n"]
    assert stats["summary"]["runs_total"] == stats["summary"]["runs_succeeded"] == 1
    csv = next(source for source in stats["sources"] if source["source"] == "csv")
    assert csv["average_duration_seconds"] > 0
    assert stats["recent_runs"] == client.get("/runs?limit=10").get_json()["data"]


def test_every_outcome_counts_where_it_belongs(client: FlaskClient, conn: Connection) -> None:
    for status in ("success", "partial", "failed", "refused", "abandoned", "cancelled", "running", "queued"):
        add_run(conn, status=status, took=10, error_message=f"it was {status}" if status in ("failed", "refused") else None)
    add_run(conn, source="rss", took=20)
    stats = client.get("/stats").get_json()
    summary = {name: stats["summary"][name] for name in ("runs_total", "runs_succeeded", "runs_failed")}
    assert summary == {"runs_total": 9, "runs_succeeded": 3, "runs_failed": 3}
    csv, rss = (next(each for each in stats["sources"] if each["source"] == name) for name in ("csv", "rss"))
    assert (csv["average_duration_seconds"], rss["average_duration_seconds"]) == (10, 20)
    assert (csv["last_error"], rss["last_error"]) == (None, None)
    add_run(conn, status="refused", error_message="too many invalid records")
    add_run(conn)
    assert next(s for s in client.get("/stats").get_json()["sources"] if s["source"] == "csv")["last_error"] == "too many invalid records"


def test_a_source_that_is_gone_from_the_program_keeps_its_line(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, source="retired")
    assert [each["source"] for each in client.get("/stats").get_json()["sources"]] == ["coinpaprika", "coingecko", "csv", "rss", "retired"]


def same(conn: Connection) -> bool:
    """Whether the kept totals are what counting the runs gives."""
    listed: list[list[Any]] = [
        conn.execute(f"select * from {table} order by source, trigger, status, le".encode()).fetchall()
        for table in ("run_totals", "finished_runs")
    ]
    return listed[0] == listed[1]


def test_kept_totals_equal_counted_ones_through_every_kind_of_change(conn: Connection) -> None:
    for number in range(30):
        add_run(conn, source=("csv", "rss")[number % 2], took=number * number, records_inserted=number, ago=60 - number)
    assert same(conn)
    run_id = add_run(conn, status="running", records_inserted=5)
    conn.execute("update etl_runs set records_inserted = 7, records_extracted = 7 where id = %s", [run_id])
    assert same(conn)
    conn.execute("update etl_runs set status = 'partial', finished_at = clock_timestamp() where id = %s", [run_id])
    assert same(conn)
    conn.execute("update etl_runs set finished_at = finished_at - interval '1 second' where source = 'rss'")
    assert same(conn)
    conn.execute("update etl_runs set source = 'moved' where id = %s", [run_id])
    assert same(conn)
    conn.execute("delete from etl_runs where id % 3 = 0")
    assert same(conn)
    conn.execute("truncate etl_runs cascade")
    assert same(conn)


def test_cost_does_not_grow_with_the_number_of_runs(client: FlaskClient, conn: Connection) -> None:
    conn.execute(
        """insert into etl_runs (source, trigger, status, started_at, finished_at)
        select 'csv', 'cli', 'success', now() - make_interval(mins => i), now() - make_interval(mins => i - 1)
        from generate_series(1, 20000) i"""
    )
    assert client.get("/stats").get_json()["summary"]["runs_total"] == 20000
    kept = conn.execute("select count(*) as lines from run_totals").fetchone()
    assert kept == {"lines": 1}


def test_who_asks_at_the_same_time_is_answered_with_what_one_read(
    app: Callable[..., Flask], conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(conn)
    made, reads, asked = app(), list[int](), threading.Barrier(8)
    found = stats.found_stats

    def slowly(conn: Any) -> Any:
        reads.append(1)
        time.sleep(1)
        return found(conn)

    def ask(_: int) -> Any:
        asked.wait()
        told = made.test_client().get("/stats").get_json()
        forget(made.extensions["kasparro"].reader)
        return told

    monkeypatch.setattr(stats, "found_stats", slowly)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert len(reads) < 8
    assert {answer["summary"]["runs_total"] for answer in answers} == {1}
    assert len({answer["request_id"] for answer in answers}) == 8
    add_run(conn)
    assert made.test_client().get("/stats").get_json()["summary"]["runs_total"] == 2
