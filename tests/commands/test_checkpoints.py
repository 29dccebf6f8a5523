"""`kasparro-etl checkpoints`: where sources stand, and starting one anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl.errors import Fenced
from etl.lease import begin_run, renew_lease
from shared.db import Connection, connect

CSV = "id,symbol,name,price\n" + "".join(f"c{n},C{n},Coin {n},{n}\n" for n in range(30))


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "assets.csv").write_text(CSV)
    return {"CSV_PATHS": str(tmp_path / "*.csv")}


def test_positions_are_shown_also_of_a_run_that_was_interrupted(etl: Any, world: dict[str, str]) -> None:
    assert etl("checkpoints", "show").err == "no source has run yet: kasparro-etl run --source all\n"
    etl("run", "--source", "csv", **world, ETL_FAIL_AFTER_N_RECORDS="10")
    assert "at record 11 of " in etl("checkpoints", "show").out
    etl("run", "--source", "csv", **world)
    (row,) = etl("checkpoints", "show", "--source", "csv", "--json").objects
    assert (row["source"], row["records_total"], row["run_id"]) == ("csv", 30, 2)
    assert "pending" not in row["position"]
    assert etl("checkpoints", "show", "--source", "rss", "--json").objects == []


def test_a_replay_leaves_the_last_run_and_the_records_as_they_are(etl: Any, world: dict[str, str]) -> None:
    etl("run", "--source", "csv", **world)
    before = etl("checkpoints", "show", "--json").objects
    assert etl("replay", "--source", "csv", **world).code == 0
    assert etl("checkpoints", "show", "--json").objects == before
    assert [(row["run_id"], row["records_total"]) for row in before] == [(1, 30)]


def test_after_a_reset_everything_is_read_again_and_nothing_is_doubled(etl: Any, world: dict[str, str], conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    assert etl("run", "--source", "csv", "--json", **world).objects[-1]["runs"][0]["records_extracted"] == 0
    assert etl("checkpoints", "reset", "--source", "csv", "--yes").code == 0
    run = etl("run", "--source", "csv", "--json", **world).objects[-1]["runs"][0]
    assert (run["records_extracted"], run["records_unchanged"]) == (30, 30)
    assert conn.execute("select count(*) as n from unified_data").fetchone() == {"n": 30}


def test_a_reset_asks_or_is_told_not_to(etl: Any, world: dict[str, str], conn: Connection) -> None:
    etl("run", "--source", "csv", **world)
    done = etl("checkpoints", "reset", "--source", "csv")
    assert (done.code, "pass --yes" in done.err) == (2, True)
    assert conn.execute("select position <> '{}' as moved from etl_checkpoints").fetchone() == {"moved": True}


def test_a_reset_is_refused_while_a_run_holds_the_source(etl: Any, dsn: str, conn: Connection) -> None:
    with connect(dsn, "holder") as holder:
        begin_run(holder, "csv", "cli")
        done = etl("checkpoints", "reset", "--source", "csv", "--yes")
        assert (done.code, "holds csv" in done.err, "--if-locked" in done.err) == (5, True, False)
    assert etl("checkpoints", "reset", "--source", "csv", "--yes").code == 0


def test_a_run_whose_lease_ran_out_writes_nothing_after_a_reset(etl: Any, conn: Connection) -> None:
    run = begin_run(conn, "csv", "cli")
    conn.execute("update etl_checkpoints set lease_expires_at = clock_timestamp() - interval '1 second'")
    assert etl("checkpoints", "reset", "--source", "csv", "--yes").code == 0
    with pytest.raises(Fenced):
        renew_lease(conn, run)


def test_a_source_that_never_ran_needs_no_reset(etl: Any) -> None:
    done = etl("checkpoints", "reset", "--source", "rss", "--yes")
    assert (done.code, "has not run yet" in done.err) == (0, True)
