"""`kasparro-etl status`, `sources` and the shell around them."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from etl.lease import begin_run, finish_run
from etl.sources import SOURCES
from shared.db import Connection, connect


def states(done: Any) -> dict[str, str]:
    return {row["source"]: row["state"] for row in done.objects}


def succeed(conn: Connection, source: str) -> None:
    finish_run(conn, begin_run(conn, source, "cli"), "success")


def test_sources_that_never_ran_are_new_and_no_alarm(etl: Any) -> None:
    done = etl("status", "--json")
    assert (done.code, states(done)) == (0, dict.fromkeys(SOURCES, "new"))


def test_a_first_run_that_was_cancelled_is_no_alarm(etl: Any, conn: Connection) -> None:
    finish_run(conn, begin_run(conn, "rss", "cli"), "cancelled")
    done = etl("status", "--json")
    assert (done.code, states(done)["rss"]) == (0, "new")


def test_a_source_is_up_until_two_intervals_have_passed(etl: Any, conn: Connection) -> None:
    succeed(conn, "rss")
    assert (etl("status").code, states(etl("status", "--json"))["rss"]) == (0, "up")
    conn.execute("update etl_runs set started_at = started_at - interval '3 hours', finished_at = finished_at - interval '3 hours'")
    late = etl("status", "--json", ETL_INTERVAL_MINUTES="60")
    assert (late.code, states(late)["rss"]) == (3, "late")
    assert 10_000 < next(row["lag_seconds"] for row in late.objects if row["source"] == "rss") < 11_000
    assert etl("status", ETL_INTERVAL_MINUTES="360").code == 0


def test_one_source_is_asked_for_alone_and_decides_the_exit_code(etl: Any, conn: Connection) -> None:
    succeed(conn, "rss")
    finish_run(conn, begin_run(conn, "csv", "cli"), "failed", error_type="SourceError", error_message="the reason")
    assert etl("status").code == 3
    good, bad = etl("status", "--source", "rss", "--json"), etl("status", "--source", "csv", "--json")
    assert (good.code, states(good), bad.code, states(bad)) == (0, {"rss": "up"}, 3, {"csv": "failed"})
    assert etl("status", "--source", "nobody").code == 2


@pytest.mark.parametrize("status", ["failed", "refused"])
def test_a_source_that_failed_is_told_with_its_error(etl: Any, conn: Connection, status: Any) -> None:
    succeed(conn, "csv")
    finish_run(conn, begin_run(conn, "csv", "cli"), status, error_type="SourceError", error_message="the reason")
    done = etl("status")
    assert done.code == 3
    assert re.search(rf"^csv +{status} ", done.out, re.MULTILINE)
    assert done.err == "csv: the reason\n"


def test_a_running_source_shows_who_holds_it_and_a_dead_one_is_stalled(etl: Any, dsn: str, conn: Connection) -> None:
    with connect(dsn, "holder") as holder:
        begin_run(holder, "rss", "cli")
        running = etl("status", "--json")
        assert (running.code, states(running)["rss"]) == (0, "running")
        assert "pid" in next(row["locked_by"] for row in running.objects if row["source"] == "rss")
        conn.execute("update etl_checkpoints set lease_expires_at = clock_timestamp() - interval '1 minute'")
    assert (etl("status").code, states(etl("status", "--json"))["rss"]) == (3, "stalled")


def test_rows_are_those_that_are_served_and_quarantine_and_drift_are_counted(etl: Any, conn: Connection) -> None:
    held = begin_run(conn, "csv", "cli")
    conn.execute("update etl_runs set records_inserted = 3450, records_extracted = 3450")
    conn.execute(
        """insert into unified_data (source, source_type, external_id, kind, name, category, raw_id, raw_position, run_id)
           select 'csv', 'csv', n::text, 'asset', 'A', 'x', 1, n, 1 from generate_series(1, 1234) n"""
    )
    conn.execute("insert into schema_drift (source, field, change, run_id) values ('csv', 'price', 'missing', 1)")
    finish_run(conn, held, "success")
    row = next(row for row in etl("status", "--json").objects if row["source"] == "csv")
    assert (row["rows_total"], row["quarantined"], row["drift"]) == (1234, 0, 1)
    assert "1,234" in etl("status").out


def test_sources_are_listed_with_where_they_read_from(etl: Any) -> None:
    done = etl("sources", COINGECKO_RATE_LIMIT="7/30", CSV_PATHS="a.csv,b/*.csv")
    assert done.code == 0
    assert [line.split()[:3] for line in done.out.splitlines()[1:5]] == [
        ["coinpaprika", "api", "10/1"],
        ["coingecko", "api", "7/30"],
        ["csv", "csv", "-"],
        ["rss", "rss", "60/60"],
    ]
    assert "a.csv, b/*.csv" in done.out
    assert next(row["rate_limit"] for row in etl("sources", "--json").objects) == {"calls": 10, "seconds": 1.0}


def test_help_and_version_need_no_settings(etl: Any) -> None:
    broken = {"DATABASE_URL": "nonsense", "PORT": "x"}
    assert etl("--version", **broken).out == f"kasparro-etl, version {version('kasparro-etl')}\n"
    for command in ([], ["run"], ["status"], ["sources"], ["migrate"]):
        done = etl(*command, "--help", **broken)
        assert done.code == 0
        assert len(done.out.splitlines()) <= 40
        assert max(map(len, done.out.splitlines())) <= 100


def test_the_embedded_database_is_used_and_migrated_without_a_setting(etl: Any, embedded_home: Path) -> None:
    done = etl("status", DATABASE_URL="", KASPARRO_HOME=str(embedded_home))
    assert done.code == 0, done.err
    assert etl("migrate", DATABASE_URL="", KASPARRO_HOME=str(embedded_home)).out == "nothing to apply: the schema is up to date\n"
