"""`kasparro-etl run` as a process: exit codes, what it prints where, and what stands in the tables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from etl.lease import begin_run
from shared.db import Connection
from sql import read_migrations

CSV = "id,symbol,name,price,market_cap\nbitcoin,BTC,Bitcoin,50000.10,1000000\nether,ETH,Ether,3000,500000\n"
FOUR = "coinpaprika,coingecko,csv,rss"


@pytest.fixture
def world(offline: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Four sources that answer, as the environment that points at them."""
    (tmp_path / "assets.csv").write_text(CSV)
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv")}


def test_all_four_sources_are_loaded_and_a_second_run_changes_nothing(etl: Any, world: dict[str, str], conn: Connection) -> None:
    first = etl("run", "--source", FOUR, "--json", **world)
    assert first.code == 0, first.err
    summary = first.objects[-1]
    assert (summary["type"], summary["exit_code"]) == ("summary", 0)
    assert [(run["source"], run["status"], run["records_inserted"]) for run in summary["runs"]] == [
        ("coinpaprika", "success", 4),
        ("coingecko", "success", 3),
        ("csv", "success", 2),
        ("rss", "success", 1),
    ]
    served = conn.execute("select source, external_id, price_usd::text, xmin::text from unified_data order by id").fetchall()
    second = etl("run", "--source", FOUR, "--json", **world)
    assert [(run["records_inserted"], run["records_updated"], run["records_quarantined"]) for run in second.objects[-1]["runs"]] == [
        (0, 0, 0)
    ] * 4
    assert conn.execute("select source, external_id, price_usd::text, xmin::text from unified_data order by id").fetchall() == served
    assert len(served) == 10


def test_off_a_terminal_a_run_is_one_json_line_a_source(etl: Any, world: dict[str, str]) -> None:
    done = etl("run", "--source", FOUR, **world)
    assert (done.code, done.out, len(done.err.splitlines())) == (0, "", 4)
    assert [line["source"] for line in done.logged] == ["coinpaprika", "coingecko", "csv", "rss"]
    assert all(line["run_id"] and line["event"] == "run finished" for line in done.logged)


def test_a_long_wait_for_the_rate_limit_is_told_once_and_not_when_quiet(etl: Any, world: dict[str, str], conn: Connection) -> None:
    for quiet in (False, True):
        conn.execute("delete from etl_rate_limits")
        conn.execute("insert into etl_rate_limits (source, calls) select 'rss', array_fill(clock_timestamp() - interval '54 s', array[60])")
        done = etl("run", "--source", "rss", *["--quiet"] * quiet, **world)
        assert done.code == 0, done.err
        waits = [line for line in done.logged if line["event"] == "request delayed"]
        if quiet:
            assert done.err == ""
        else:
            assert [(line["source"], line["run_id"], line["reason"]) for line in waits] == [("rss", 1, "waiting for the rate limit")]
            assert 2 < waits[0]["delay_seconds"] <= 6


def test_quiet_says_nothing_when_all_is_well_and_only_what_failed_when_not(etl: Any, world: dict[str, str]) -> None:
    assert (etl("run", "--source", FOUR, "--quiet", **world).err) == ""
    done = etl("run", "--source", FOUR, "--quiet", **world | {"CSV_PATHS": "/nowhere/*.csv"})
    assert done.code == 3
    assert [line["source"] for line in done.logged] == ["csv"]


def test_a_source_that_fails_leaves_the_others_loaded_and_says_one_line(etl: Any, world: dict[str, str], upstream: Any) -> None:
    upstream.answers["/g/coins/markets"] = (401, {}, b'{"status":{"error_message":"API Key Missing"}}')
    done = etl("run", "--source", FOUR, **world)
    assert done.code == 3
    (failed,) = [line for line in done.logged if line["event"] == "run failed"]
    assert (failed["source"], failed["error_type"]) == ("coingecko", "FetchError")
    assert "401 (API Key Missing): check the API key" in failed["error_message"]
    assert sum(line["event"] == "run finished" for line in done.logged) == 3


def test_without_a_network_what_can_be_read_is_loaded(etl: Any, world: dict[str, str], conn: Connection) -> None:
    offline = dict.fromkeys(("COINPAPRIKA_BASE_URL", "COINGECKO_BASE_URL", "RSS_FEED_URLS"), "http://127.0.0.1:9/closed")
    done = etl("run", "--source", FOUR, "--json", **world | offline)
    assert (done.code, [run["status"] for run in done.objects[-1]["runs"]]) == (3, ["failed", "failed", "success", "failed"])
    assert all("connection refused" in run["error_message"] for run in done.objects[-1]["runs"] if run["status"] == "failed")
    assert conn.execute("select count(*) as n from unified_data").fetchone() == {"n": 2}


def test_some_sources_can_be_named(etl: Any, world: dict[str, str]) -> None:
    done = etl("run", "--source", "rss, csv", "--json", **world)
    assert [run["source"] for run in done.objects[-1]["runs"]] == ["csv", "rss"]


@pytest.mark.parametrize("names", ["nope", "", "csv,nope", ","])
def test_an_unknown_source_is_a_usage_error_that_names_the_known(etl: Any, names: str) -> None:
    done = etl("run", "--source", names)
    assert done.code == 2
    assert "choose all or some of coinpaprika, coingecko, csv, rss" in done.err


def test_a_bad_setting_is_one_line_a_variable_and_exit_2(etl: Any) -> None:
    done = etl("run", "--source", "csv", PORT="x", ETL_BATCH_SIZE="0")
    assert done.code == 2
    assert [line.split(":")[1].strip() for line in done.err.splitlines()] == ["ETL_BATCH_SIZE", "PORT"]


def test_an_unreachable_database_is_exit_4_without_its_password(etl: Any) -> None:
    done = etl("run", "--source", "csv", DATABASE_URL="postgresql://me:hunter22@127.0.0.1:1/db")
    assert done.code == 4
    assert "database unreachable" in done.err
    assert "hunter22" not in done.err
    assert len(done.err.splitlines()) == 1


def test_a_database_that_was_not_migrated_is_exit_4_with_the_command(etl: Any, empty_dsn: str, world: dict[str, str]) -> None:
    done = etl("run", "--source", "csv", **world | {"DATABASE_URL": empty_dsn})
    names = [migration.name for migration in read_migrations()]
    assert (done.code, done.err) == (4, f"kasparro-etl: schema is empty, need {names[-1][:4]}: run `kasparro-etl migrate`\n")
    assert etl("migrate", DATABASE_URL=empty_dsn).out == "".join(f"applied {name}\n" for name in names)
    assert etl("migrate", DATABASE_URL=empty_dsn).out == "nothing to apply: the schema is up to date\n"
    assert etl("run", "--source", "csv", **world | {"DATABASE_URL": empty_dsn}).code == 0


@pytest.mark.parametrize(("policy", "code"), [("fail", 5), ("skip", 0)])
def test_a_locked_source_is_exit_5_or_skipped(etl: Any, world: dict[str, str], conn: Connection, policy: str, code: int) -> None:
    begin_run(conn, "csv", "cli")
    done = etl("run", "--source", "csv", "--if-locked", policy, "--json", **world)
    assert (done.code, done.objects[-1]["runs"][0]["status"]) == (code, "locked")
    assert "holds csv" in done.objects[-1]["runs"][0]["error_message"]


def test_a_skipped_source_is_no_failure_in_any_word(etl: Any, world: dict[str, str], conn: Connection) -> None:
    begin_run(conn, "csv", "cli")
    skip = ["run", "--source", "csv", "--if-locked", "skip"]
    told = etl(*skip, LOG_FORMAT="console", **world)
    lines = told.err.splitlines()
    assert (told.code, lines[0].startswith("- csv         skipped: run 1 ("), lines[1:]) == (0, True, ["done: 1 skipped in 0.0 s, exit 0"])
    assert [(line["level"], line["event"]) for line in etl(*skip, **world).logged] == [("info", "run skipped")]
    assert etl(*skip, "--quiet", **world).err == ""
    assert "✘ csv" in etl("run", "--source", "csv", LOG_FORMAT="console", **world).err


def test_one_locked_source_of_several_is_exit_3(etl: Any, world: dict[str, str], conn: Connection) -> None:
    begin_run(conn, "csv", "cli")
    done = etl("run", "--source", "csv,rss", "--json", **world)
    assert (done.code, [run["status"] for run in done.objects[-1]["runs"]]) == (3, ["locked", "success"])


def test_an_injected_failure_commits_exactly_n_and_the_next_run_goes_on(etl: Any, world: dict[str, str], conn: Connection) -> None:
    failed = etl("run", "--source", "coinpaprika", "--json", **world, ETL_FAIL_AFTER_N_RECORDS="3")
    assert (failed.code, failed.objects[-1]["runs"][0]["records_inserted"]) == (3, 3)
    resumed = etl("run", "--source", "coinpaprika", "--json", **world)
    assert resumed.objects[-1]["runs"][0]["resumed_at"].startswith("record 4 of http")
    assert conn.execute("select status, records_inserted, resumed_from from etl_runs order by id").fetchall() == [
        {"status": "failed", "records_inserted": 3, "resumed_from": None},
        {"status": "success", "records_inserted": 1, "resumed_from": 1},
    ]


def test_no_secret_reaches_an_output_or_a_table(etl: Any, world: dict[str, str], upstream: Any, conn: Connection) -> None:
    def echo(request: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return 403, {}, json.dumps({"error": f"bad key {request['headers'].get('authorization')}"}).encode()

    upstream.answers["/p/tickers"] = echo
    done = etl("run", "--source", FOUR, "--json", **world, COINPAPRIKA_API_KEY="CANARY-1", COINGECKO_API_KEY="CANARY-2", LOG_LEVEL="DEBUG")
    assert done.code == 3
    assert upstream.log[0]["headers"]["authorization"] == "CANARY-1"
    stored = conn.execute("select r::text from etl_runs r union all select p::text from raw_payloads p").fetchall()
    assert "CANARY" not in done.out + done.err + str(stored)
    assert "bad key ***" in done.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait_for_an_upstream_cleanly(
    dsn: str, world: dict[str, str], upstream: Any, conn: Connection, number: int, code: int
) -> None:
    upstream.answers["/p/tickers"] = (503, {"Retry-After": "100"}, b"")
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "run", "--source", "coinpaprika,csv"]
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, "LOG_LEVEL": "INFO", **world}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "request retried" not in process.stderr.readline():
            pass
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == code
    assert conn.execute("select source, status from etl_runs").fetchall() == [{"source": "coinpaprika", "status": "cancelled"}]
    assert conn.execute("select lease_expires_at from etl_checkpoints").fetchall() == [{"lease_expires_at": None}]


def test_a_second_sigint_ends_at_once_and_nothing_is_lost(
    dsn: str, world: dict[str, str], conn: Connection, tmp_path: Path, etl: Any
) -> None:
    (tmp_path / "assets.csv").write_text("symbol,name,price\n" + "".join(f"S{n},Name {n},{n}.5\n" for n in range(3000)))
    conn.execute("create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.02); return new; end'")
    conn.execute("create trigger slow before insert on unified_data for each row execute function slow()")
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "run", "--source", "csv", "--batch-size", "1000"]
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": dsn, **world}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        while not conn.execute("select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'").fetchall():
            pass
        process.send_signal(signal.SIGINT)
        assert process.stderr
        while "finishing the batch in hand" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told.splitlines()[-1].split(":")[1].strip()) == (130, "stopped at once")
    conn.execute("drop trigger slow on unified_data")
    assert etl("run", "--source", "csv", "--if-locked", "wait", **world).code == 0
    assert conn.execute("select count(*) as n from unified_data").fetchone() == {"n": 3000}
    assert conn.execute("select status from etl_runs order by id").fetchall() == [{"status": "abandoned"}, {"status": "success"}]


def test_the_lines_of_a_dry_run_name_their_source(etl: Any, world: dict[str, str]) -> None:
    done = etl("run", "--source", FOUR, "--dry-run", **world | {"LOG_LEVEL": "DEBUG"})
    assert {line["source"] for line in done.logged if line["event"] == "batch loaded"} == set(FOUR.split(","))


def test_a_dry_run_leaves_no_trace(etl: Any, world: dict[str, str], conn: Connection) -> None:
    done = etl("run", "--source", FOUR, "--dry-run", "--json", **world)
    assert [run["records_inserted"] for run in done.objects[-1]["runs"]] == [4, 3, 2, 1]
    for table in ("etl_runs", "unified_data", "raw_payloads", "price_history", "quarantined_records"):
        assert conn.execute(f"select count(*) as n from {table}".encode()).fetchone() == {"n": 0}, table


def test_a_feed_that_did_not_change_is_asked_with_its_validator(etl: Any, world: dict[str, str], upstream: Any) -> None:
    etl("run", "--source", "rss", **world)
    upstream.answers["/feed"] = (304, {}, b"")
    done = etl("run", "--source", "rss", "--json", **world)
    assert upstream.log[-1]["headers"]["if-none-match"] == '"1"'
    assert (done.code, done.objects[-1]["runs"][0]["records_extracted"]) == (0, 0)


def test_a_killed_run_is_abandoned_and_resumed_by_the_next(
    dsn: str, etl: Any, world: dict[str, str], upstream: Any, conn: Connection
) -> None:
    upstream.answers["/g/coins/markets"] = (503, {"Retry-After": "100"}, b"")
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "run", "--source", "coingecko"]
    with subprocess.Popen(
        command, env={"PATH": os.environ["PATH"], "DATABASE_URL": dsn, **world}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        while "request retried" not in process.stderr.readline():
            pass
        process.kill()
    upstream.answers["/g/coins/markets"] = b'[{"id":"a","symbol":"a","name":"A","current_price":1,"last_updated":null}]'
    while conn.execute(
        "select 1 from pg_stat_activity where datname = current_database() and application_name = 'kasparro-etl'"
    ).fetchall():
        pass
    assert etl("run", "--source", "coingecko", **world).code == 0
    assert [row["status"] for row in conn.execute("select status from etl_runs order by id").fetchall()] == ["abandoned", "success"]


def test_two_processes_share_one_fresh_embedded_server(world: dict[str, str], tmp_path: Path, embedded_home: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KASPARRO_HOME": str(embedded_home), **world}
    command = [str(Path(sys.executable).parent / "kasparro-etl"), "run", "--json", "--source"]
    both = [
        subprocess.Popen([*command, names], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for names in ("csv", "rss")
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    again = subprocess.run([*command, "csv,rss"], env=env, capture_output=True, text=True, timeout=120)
    runs = json.loads(again.stdout.splitlines()[-1])["runs"]
    assert [(run["id"] in (3, 4), run["records_inserted"]) for run in runs] == [(True, 0), (True, 0)]
    leftover = subprocess.run(["pgrep", "-f", str(embedded_home)], capture_output=True, text=True)
    assert leftover.stdout == ""


def test_what_a_person_should_know_of_a_file_is_logged_once(etl: Any, world: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text(CSV)
    etl("run", "--source", "csv", **world)
    (tmp_path / "assets.csv").write_text(CSV.replace("ether,ETH,Ether,3000,500000\n", ""))
    (noted, finished) = etl("run", "--source", "csv", **world).logged
    assert (noted["event"], noted["note"]) == (
        "payload noted",
        "the file was truncated since the last run: it is read again from its start",
    )
    assert noted["run_id"] == finished["run_id"]


@pytest.mark.parametrize(("redirect", "code"), [(">&-", 0), ("> /dev/full", 3), ("2>&-", 0), ("| true", 0)])
def test_a_reader_that_goes_away_does_not_keep_the_data_from_being_loaded(
    dsn: str, world: dict[str, str], conn: Connection, redirect: str, code: int
) -> None:
    command = f"{Path(sys.executable).parent / 'kasparro-etl'} run --source {FOUR} --json {redirect}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={"PATH": os.environ["PATH"], "DATABASE_URL": dsn, **world}, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code
    assert conn.execute("select count(*) as n from etl_runs where status = 'success'").fetchone() == {"n": 4}


def test_a_role_without_rights_is_one_line_and_exit_4(etl: Any, dsn: str, world: dict[str, str], conn: Connection) -> None:
    role = f"reader_{os.getpid()}"
    conn.execute(f"drop role if exists {role}".encode())
    conn.execute(f"create role {role} login".encode())
    try:
        conn.execute(f"grant select on all tables in schema public to {role}".encode())
        done = etl("run", "--source", "csv", **world | {"DATABASE_URL": make_conninfo(dsn, user=role)})
        assert (done.code, len(done.err.splitlines())) == (4, 1), done.err
        assert "permission denied" in done.err
    finally:
        conn.execute(f"drop owned by {role}".encode())
        conn.execute(f"drop role {role}".encode())
