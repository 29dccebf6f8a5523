"""`--deadline`: a run that stops by itself, as cleanly as for a signal, and says what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.db import Connection

ROWS = 3000


@pytest.fixture
def world(offline: dict[str, str], tmp_path: Path, conn: Connection) -> dict[str, str]:
    """A file that takes long to load."""
    (tmp_path / "assets.csv").write_text("symbol,name,price\n" + "".join(f"S{n},Name {n},{n}.5\n" for n in range(ROWS)))
    conn.execute("create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.5); return null; end'")
    conn.execute("create trigger slow after insert on unified_data for each statement execute function slow()")
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv")}


def test_a_run_stops_at_a_batchs_end_says_what_is_left_and_the_next_goes_on(etl: Any, world: dict[str, str], conn: Connection) -> None:
    words = ("run", "--source", "csv,rss", "--batch-size", "50", "--json")
    late = etl(*words, "--deadline", "3s", **world)
    assert late.code == 3, late.err
    summary = late.objects[-1]
    (run,) = summary["runs"]
    assert (run["status"], summary["not_begun"]) == ("cancelled", ["rss"])
    assert "stopped at its deadline" in run["error_message"]
    assert "run the same command again to go on" in run["error_message"]
    assert 0 < run["records_extracted"] < ROWS
    assert conn.execute("select count(*) as n from unified_data").fetchone() == {"n": run["records_extracted"]}
    assert conn.execute("select lease_expires_at from etl_checkpoints").fetchall() == [{"lease_expires_at": None}]
    conn.execute("drop trigger slow on unified_data")
    again = etl(*words, **world)
    assert (again.code, again.objects[-1]["runs"][0]["records_inserted"]) == (0, ROWS - run["records_extracted"])
    assert again.objects[-1]["runs"][0]["resumed_at"]


def test_a_deadline_ends_the_wait_for_an_upstream(etl: Any, world: dict[str, str], upstream: Any, conn: Connection) -> None:
    upstream.answers["/p/tickers"] = (503, {"Retry-After": "100"}, b"")
    done = etl("run", "--source", "coinpaprika", "--deadline", "3s", **world)
    assert done.code == 3
    assert conn.execute("select status from etl_runs").fetchall() == [{"status": "cancelled"}]


def test_a_deadline_that_is_not_reached_changes_nothing(etl: Any, world: dict[str, str]) -> None:
    assert etl("run", "--source", "rss", "--deadline", "10m", **world).code == 0


def test_the_summary_for_a_person_names_what_goes_on(etl: Any, world: dict[str, str]) -> None:
    done = etl("run", "--source", "csv,rss", "--batch-size", "50", "--deadline", "3s", **world, LOG_FORMAT="console")
    assert "1 cancelled, 1 not begun" in done.err
    assert "to go on: kasparro-etl run --source csv,rss" in done.err
