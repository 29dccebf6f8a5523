"""Migrations: once each, in order, whole or not at all, and the tables that the contract names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shared import migrations
from shared.db import Connection, connect, fetch_one, linked
from shared.errors import DatabaseError, SchemaError
from shared.migrations import migrate, require_schema
from sql import Migration, queries, read_migrations
from tests.conftest import named

NAMES = [step.name for step in read_migrations()]
ROOT = str(Path(migrations.__file__).parents[1])
TABLES = {
    "etl_runs": "id source trigger status started_at finished_at duration_seconds records_extracted records_inserted records_updated"
    " records_unchanged records_quarantined error_type error_message resumed_from host version",
    "etl_checkpoints": "source position records_total run_id updated_at",
    "raw_api_data": "id source run_id fetched_at url sha256 body",
    "raw_csv_data": "id source run_id fetched_at url sha256 body",
    "raw_rss_data": "id source run_id fetched_at url sha256 body",
    "unified_data": "id source source_type external_id kind asset_id symbol name category price_usd market_cap_usd volume_24h_usd"
    " percent_change_24h rank url tags source_updated_at first_seen_at updated_at status raw_id raw_position run_id",
    "price_history": "source external_id observed_at price_usd market_cap_usd volume_24h_usd run_id",
    "quarantined_records": "id source run_id raw_id raw_position record errors first_seen_at last_seen_at attempts resolved_at",
    "schema_drift": "id source field change suggested_field confidence sample first_seen_at last_seen_at accepted_at run_id",
}
RUN = "insert into etl_runs (source, trigger, status, started_at, finished_at) values ('csv', 'cli', 'success', now(), now())"
ROW = (
    "insert into unified_data (source, source_type, external_id, kind, name, category, raw_id, raw_position, run_id)"
    " values ('csv', 'csv', 'a', 'asset', 'A', 'x', 1, 0, 1)"
)
PRICE = "insert into price_history (source, external_id, observed_at, price_usd, run_id) values ('csv', 'a', '2026-01-01', 1, 1)"
RAW = (
    "insert into raw_payloads (source_type, source, run_id, fetched_at, url, sha256, body)"
    " values ('api', 'coingecko', 1, now(), 'u', '\\x01', '\\x00ff')"
)
BAD = (
    "insert into quarantined_records (source, run_id, raw_id, raw_position, record, fingerprint, errors)"
    " values ('csv', 1, 1, 0, 'r', '\\x01', '[]')"
)
DRIFT = "insert into schema_drift (source, field, change, confidence, run_id) values ('csv', 'f', 'added', 0.5, 1)"
REFUSED = (
    ("etl_runs", RUN, "finished_at = null; status = 'running'; status = 'queued'; records_inserted = 1; records_extracted = 1"),
    ("etl_runs", RUN, "records_extracted = 3, records_inserted = 1, records_quarantined = 1; status = 'done'; trigger = 'hand'"),
    ("etl_runs", RUN, "started_at = null; source = null"),
    ("unified_data", ROW, "category = null; name = null; external_id = ''; kind = 'coin'; status = 'old'; rank = 0; price_usd = -1"),
    ("unified_data", ROW, "price_usd = 'NaN'; market_cap_usd = 'Infinity'; volume_24h_usd = -1; source_updated_at = 'infinity'"),
    ("unified_data", ROW, "percent_change_24h = 'NaN'"),
    ("price_history", PRICE, "price_usd = null; price_usd = -1; observed_at = '-infinity'"),
    ("schema_drift", DRIFT, "change = 'moved'; confidence = 1.1; field = null"),
    ("quarantined_records", BAD, "record = null; errors = null"),
)

Know = Callable[..., None]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Know:
    """Make the program know these migrations."""

    def know(*steps: Migration) -> None:
        monkeypatch.setattr(migrations, "read_migrations", lambda: list(steps))

    return know


def step(name: str, script: str) -> Migration:
    """A migration."""
    return Migration(name, script.encode(), f"digest of {script}")


def tables(conn: Connection) -> set[str]:
    """The tables of the database."""
    return {row["t"] for row in conn.execute("select tablename as t from pg_tables where schemaname = 'public'")}


def applied(conn: Connection) -> list[str]:
    """The migrations noted in the database."""
    return [row["name"] for row in conn.execute("select name from schema_migrations order by name")]


def test_an_empty_database_gets_every_migration_and_a_second_time_none(empty_dsn: str) -> None:
    with connect(empty_dsn, "tests") as conn:
        assert migrate(conn) == NAMES
        require_schema(conn)
        assert migrate(conn) == []
        assert applied(conn) == NAMES


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_of_six_that_start_at_once_each_migration_is_applied_by_one(empty_dsn: str, isolation: str, known: Know) -> None:
    known(*read_migrations(), step("9001_one", "create table one (i int); select pg_sleep(0.02)"), step("9002_two", "create table two ()"))
    with connect(empty_dsn, "tests") as conn:
        conn.execute(f"alter database {conn.info.dbname} set default_transaction_isolation = '{isolation}'".encode())

    def one(_: int) -> list[str]:
        with connect(empty_dsn, "tests") as conn:
            return migrate(conn)

    with ThreadPoolExecutor(6) as threads:
        done = [name for names in threads.map(one, range(6)) for name in names]
    assert sorted(done) == [*NAMES, "9001_one", "9002_two"]


def test_of_six_processes_that_start_at_once_each_migration_is_applied_by_one(empty_dsn: str) -> None:
    script = "import sys; from shared.db import connect; from shared.migrations import migrate; print(*migrate(connect(sys.argv[1], 't')))"
    command = [sys.executable, "-W", "ignore", "-c", script, empty_dsn]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(6)]
    done = [name for process in running for name in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in running] == [0] * 6
    assert sorted(done) == NAMES


def test_a_migration_edited_after_it_was_applied_is_refused(conn: Connection, known: Know) -> None:
    first, *rest = read_migrations()
    known(replace(first, checksum="another"), *rest)
    for check in (migrate, require_schema):
        with pytest.raises(SchemaError, match=rf"^migration {first.name} was edited after it was applied: restore the file"):
            check(conn)


def test_a_database_ahead_of_this_version_is_refused(conn: Connection) -> None:
    conn.execute("insert into schema_migrations (name, checksum) values ('9999_later', 'x')")
    for check in (migrate, require_schema):
        with pytest.raises(SchemaError, match=rf"^schema is at 9999, this version knows {NAMES[-1][:4]}: install a newer kasparro-etl$"):
            check(conn)


def test_a_database_with_a_migration_nobody_knows_is_refused(conn: Connection) -> None:
    conn.execute("insert into schema_migrations (name, checksum) values ('0000_other', 'x')")
    for check in (migrate, require_schema):
        with pytest.raises(SchemaError, match=r"^migration 0000_other is unknown to this version: install"):
            check(conn)


def test_a_database_behind_is_refused_with_the_command_that_helps(conn: Connection, known: Know) -> None:
    known(*read_migrations(), step("9001_next", "create table next ()"))
    with pytest.raises(SchemaError, match=rf"^schema is at {NAMES[-1][:4]}, need 9001: run `kasparro-etl migrate`$"):
        require_schema(conn)
    assert migrate(conn) == ["9001_next"]
    require_schema(conn)


def test_an_empty_database_is_refused_with_the_command_that_helps_and_left_empty(empty_dsn: str) -> None:
    with connect(empty_dsn, "tests") as conn:
        with pytest.raises(SchemaError, match=rf"^schema is empty, need {NAMES[-1][:4]}: run `kasparro-etl migrate`$"):
            require_schema(conn)
        assert tables(conn) == set()


def test_a_failing_migration_leaves_nothing_of_itself_and_can_be_mended(empty_dsn: str, known: Know) -> None:
    good, broken = step("0001_a", "create table a ()"), step("0002_b", "create table b (); create table half (); select 1/0")
    with connect(empty_dsn, "tests") as conn:
        known(good, broken)
        with pytest.raises(SchemaError, match=r"^migration 0002_b failed: division by zero: nothing of it was kept"):
            migrate(conn)
        assert tables(conn) == {"schema_migrations", "a"}
        assert applied(conn) == ["0001_a"]
        known(good, step("0002_b", "create table b ()"))
        assert migrate(conn) == ["0002_b"]


def test_a_table_in_use_is_not_waited_for_without_end(empty_dsn: str, known: Know, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(queries, "bound_migration", queries["bound_migration"].replace(b"'60s'", b"'50ms'"))
    first, second = step("0001_a", "create table a ()"), step("0002_b", "alter table a add column b integer")
    with connect(empty_dsn, "tests") as conn, connect(empty_dsn, "tests") as busy:
        known(first)
        migrate(conn)
        known(first, second)
        with busy.transaction():
            busy.execute("lock table a in row exclusive mode")
            told = r"^migration 0002_b failed: another session holds a lock on a table: .*: nothing of it was kept, try again"
            with pytest.raises(SchemaError, match=told):
                migrate(conn)
        assert migrate(conn) == ["0002_b"]


def test_a_database_that_another_program_migrates_is_refused_in_one_line(empty_dsn: str) -> None:
    with connect(empty_dsn, "tests") as conn:
        conn.execute("create table schema_migrations (version text primary key)")
        for check in (migrate, require_schema):
            with pytest.raises(
                SchemaError,
                match=r"^(migration schema_migrations failed|the schema cannot be checked): .*: nothing of it was kept, use a database of",
            ):
                check(conn)
        assert tables(conn) == {"schema_migrations"}


def test_a_connection_lost_during_a_migration_is_no_fault_of_the_schema(empty_dsn: str, known: Know) -> None:
    known(step("0001_a", "create table a (); select pg_terminate_backend(pg_backend_pid())"))
    with connect(empty_dsn, "tests") as conn, pytest.raises(psycopg.OperationalError):
        migrate(conn)
    with connect(empty_dsn, "tests") as conn:
        assert tables(conn) == set()


def test_a_read_only_database_is_one_clear_line(empty_dsn: str) -> None:
    with connect(empty_dsn, "tests") as conn:
        conn.execute(f"alter database {conn.info.dbname} set default_transaction_read_only = on".encode())

    def attempt() -> None:
        with linked(empty_dsn, "tests") as link:
            conn = link.conn
            migrate(conn)

    with pytest.raises(DatabaseError, match=r"^this connection may only read: cannot execute .* in a read-only transaction: "):
        attempt()


def test_a_function_that_acts_for_the_owner_is_open_to_nobody_else_and_looks_names_up_nowhere_else(conn: Connection) -> None:
    query = """select proname as name, has_function_privilege('public', oid, 'execute') as open,
                      proconfig::text ~ 'search_path=.*pg_temp' as bound
               from pg_proc where prosecdef and pronamespace = 'public'::regnamespace order by 1"""
    found = {row["name"]: (row["open"], row["bound"]) for row in conn.execute(query.encode())}
    assert set(found) >= {"enqueue_run", "ensure_price_history", "make_price_month", "make_read_index"}
    assert set(found.values()) == {(False, True)}, found


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_the_contract_has_the_columns_it_names(conn: Connection, table: str) -> None:
    found = conn.execute("select column_name as c from information_schema.columns where table_name = %s", [table]).fetchall()
    assert set(TABLES[table].split()) <= {row["c"] for row in found}


def test_the_types_that_the_contract_names_are_these(conn: Connection) -> None:
    query = "select table_name || '.' || column_name as c, data_type as t from information_schema.columns"
    types = {row["c"]: row["t"] for row in conn.execute(query)}
    expected: dict[str, Any] = {"etl_checkpoints.position": "jsonb", "quarantined_records.errors": "jsonb", "raw_api_data.body": "bytea"}
    assert {name: types[name] for name in expected} == expected


@pytest.mark.parametrize("row", [ROW, PRICE, RAW, BAD])
def test_a_key_is_unique(conn: Connection, row: str) -> None:
    conn.execute(row.encode())
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(row.encode())


@pytest.mark.parametrize(("row", "table", "change"), [(row, table, one) for table, row, changes in REFUSED for one in changes.split("; ")])
def test_the_database_refuses_what_must_not_be(conn: Connection, row: str, table: str, change: str) -> None:
    conn.execute(row.encode())
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
        conn.execute(f"update {table} set {change}".encode())


def test_only_one_run_of_a_source_is_open_at_a_time(conn: Connection) -> None:
    running = b"insert into etl_runs (source, trigger, status, started_at) values ('csv', 'cli', 'running', now())"
    conn.execute(running)
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(running)


def test_a_run_counts_its_seconds_by_itself(conn: Connection) -> None:
    conn.execute(RUN.encode())
    conn.execute("update etl_runs set finished_at = started_at + interval '1.5 seconds'")
    row = conn.execute("select duration_seconds::float8 as s from etl_runs").fetchone()
    assert row == {"s": 1.5}


def test_a_database_that_keeps_text_in_another_encoding_is_refused(server: str, template: str) -> None:
    name = f"{template}_latin"
    with connect(server, "tests") as conn:
        conn.execute(f"create database {name} encoding 'LATIN1' locale 'C' template template0".encode())
    with connect(named(server, name), "tests") as conn:
        for check in (migrate, require_schema):
            with pytest.raises(SchemaError, match=r"keeps text as LATIN1: make one with ENCODING 'UTF8'"):
                check(conn)


def test_records_that_were_there_before_they_were_kept_as_json_are_kept_as_it(empty_dsn: str, known: Know) -> None:
    every = read_migrations()
    with connect(empty_dsn, "tests") as conn:
        known(*(each for each in every if each.name < "0022"))
        migrate(conn)
        conn.execute(ROW.encode())
        known(*every)
        assert migrate(conn)[0] == "0022_ready_json"
        row = fetch_one(conn, b"select id, doc::json ->> 'id' as told, doc::json ->> 'name' as name from unified_data")
        assert row
        assert (row["told"], row["name"]) == (str(row["id"]), "A")
        assert fetch_one(conn, b"select count(*) as n from data_versions") == {"n": 1}
