"""What the API does while its database is down, frozen, full, locked, unmigrated, or comes back."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest
import requests
from flask.testing import FlaskClient

from shared import embedded
from shared.db import Connection, connect
from shared.errors import DatabaseError
from shared.migrations import migrate
from shared.settings import read_settings
from sql import read_migrations
from tests.conftest import RECORD
from tests.web.conftest import wait_until
from web import create_app, db, errors
from web import queries as reads
from web.connection import Connection as ReadOnly
from web.connection import connect as connect_reader
from web.connection import guarded
from web.db import forget, open_reader, read, read_within
from web.statements import Selection, Window

READS = ("/runs", "/runs/1", "/stats", "/compare-runs", "/quarantine", "/drift", "/health/ready")


@pytest.fixture
def client_of() -> Iterator[Callable[[str], FlaskClient]]:
    """Make a client of an app over any address."""
    made = []

    def make(dsn: str) -> FlaskClient:
        made.append(create_app(read_settings({}), dsn))
        return made[-1].test_client()

    yield make
    for app in made:
        forget(app.extensions["kasparro"].reader)


def assert_unavailable(client: FlaskClient, paths: tuple[str, ...] = READS) -> None:
    """Every read is refused in one form, and what needs no database goes on."""
    for path in paths:
        refused = client.get(path)
        assert (refused.status_code, refused.mimetype) == (503, "application/problem+json")
        assert int(refused.headers["Retry-After"]) > 0
    health = client.get("/health")
    assert (health.status_code, health.get_json()["status"]) == (503, "unhealthy")
    assert client.get("/health/live").status_code == 200
    assert "kasparro_database_up 0.0" in client.get("/metrics").get_data(as_text=True)
    assert client.get("/observability/metrics/json").get_json()["rate_limiting"] == {}


def test_a_database_that_is_not_there_is_a_503(client_of: Callable[[str], FlaskClient]) -> None:
    assert_unavailable(client_of("postgresql://nobody@127.0.0.1:1/none"))


def test_a_host_that_accepts_and_says_nothing_is_a_503_in_time(client_of: Callable[[str], FlaskClient]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client, started = client_of(f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"), time.monotonic()
        assert client.get("/health").status_code == 503
        assert time.monotonic() - started < 5
        assert_unavailable(client)


def test_an_unmigrated_database_is_a_503_that_names_the_command(client_of: Callable[[str], FlaskClient], empty_dsn: str) -> None:
    client = client_of(empty_dsn)
    assert "kasparro-etl migrate" in client.get("/runs").get_json()["detail"]
    health = client.get("/health")
    assert (health.status_code, health.get_json()["database_connected"]) == (503, True)


def test_a_schema_without_the_newest_migration_is_a_503_and_one_with_a_newer_is_none(
    client_of: Callable[[str], FlaskClient], empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(empty_dsn)
    with connect(empty_dsn, "tests") as conn:
        with monkeypatch.context() as older:
            older.setattr("shared.migrations.read_migrations", lambda: read_migrations()[:-1])
            migrate(conn)
        refused = client.get("/health/ready")
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        assert refused.get_json()["detail"] == "the database is not migrated: run `kasparro-etl migrate`"
        health = client.get("/health")
        assert (health.status_code, health.get_json()["status"], health.get_json()["database_connected"]) == (503, "unhealthy", True)
        assert "kasparro_database_up 0.0" in client.get("/metrics").text
        assert client.get("/").status_code == 503
        migrate(conn)
        conn.execute("insert into schema_migrations (name, checksum) values ('9999_later', 'x')")
    assert [client.get(path).status_code for path in ("/health/ready", "/health", "/")] == [200, 200, 200]
    assert "kasparro_database_up 1.0" in client.get("/metrics").text


def test_a_lock_held_for_long_is_a_503_and_no_longer_once_it_is_gone(client: FlaskClient, conn: Connection) -> None:
    with conn.transaction():
        conn.execute("lock table etl_runs")
        refused = client.get("/runs")
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert client.get("/runs").status_code == 200


def test_a_role_without_a_connection_left_or_without_rights_is_a_503(
    client_of: Callable[[str], FlaskClient], conn: Connection, dsn: str
) -> None:
    name = f"full_{conn.info.dbname}"
    conn.execute(f"create role {name} login connection limit 0".encode())
    try:
        client = client_of(psycopg.conninfo.make_conninfo(dsn, user=name))
        assert client.get("/runs").status_code == 503
        conn.execute(f"alter role {name} connection limit 5".encode())
        time.sleep(0.6)
        assert "granted" not in client.get("/runs").get_data(as_text=True)
        assert client.get("/runs").status_code == 503
        conn.execute(f"grant select on all tables in schema public to {name}".encode())
        assert client.get("/runs").status_code == 200
        forget(client.application.extensions["kasparro"].reader)
    finally:
        conn.execute(f"drop owned by {name}".encode())
        conn.execute(f"drop role {name}".encode())


def test_one_table_that_may_not_be_read_is_a_503_where_it_is_read_and_told_in_the_log(
    client_of: Callable[[str], FlaskClient], conn: Connection, dsn: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name = f"narrow_{conn.info.dbname}"
    conn.execute(f"create role {name} login".encode())
    try:
        conn.execute(f"grant select on all tables in schema public to {name}".encode())
        conn.execute(f"revoke select on schema_drift, etl_checkpoints from {name}".encode())
        client = client_of(psycopg.conninfo.make_conninfo(dsn, user=name))
        errors.reported.clear()
        for _ in range(3):
            refused = client.get("/drift")
            assert (refused.status_code, refused.mimetype, "Retry-After" in refused.headers) == (503, "application/problem+json", True)
            assert "schema_drift" not in refused.get_data(as_text=True)
        told = capfd.readouterr()
        assert (told.out + told.err).count("grant it select") == 1
        assert "Traceback" not in told.out + told.err
        assert client.get("/runs").status_code == client.get("/data").status_code == 200
        health = client.get("/health")
        assert (health.status_code, health.get_json()["status"], health.get_json()["database_connected"]) == (503, "unhealthy", True)
        conn.execute(f"grant select on schema_drift, etl_checkpoints to {name}".encode())
        assert client.get("/drift").status_code == client.get("/health").status_code == 200
        forget(client.application.extensions["kasparro"].reader)
    finally:
        conn.execute(f"drop owned by {name}".encode())
        conn.execute(f"drop role {name}".encode())


def test_a_connection_that_died_meanwhile_is_replaced_unnoticed(client: FlaskClient, conn: Connection) -> None:
    assert client.get("/runs").status_code == 200
    conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'kasparro-api' and datname = current_database()"
    )
    assert client.get("/runs").status_code == 200


def test_a_migration_under_a_prepared_statement_goes_unnoticed(client: FlaskClient, conn: Connection) -> None:
    for _ in range(8):
        assert client.get("/drift").status_code == 200
    conn.execute("alter table schema_drift alter column sample type varchar")
    assert client.get("/drift").status_code == 200


@pytest.mark.parametrize("options", ["", "-c default_transaction_read_only=off"])
def test_no_read_can_write_even_where_the_options_were_dropped(dsn: str, options: str) -> None:
    bare = ReadOnly.connect(dsn, autocommit=True, options=options)
    bare.read_only = True
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), guarded(bare):
        bare.execute("create table t ()")
    with guarded(bare):
        shown = bare.execute("show statement_timeout").fetchone()
    assert "1400ms" in str(shown)
    bare.close()


def test_an_address_that_asks_for_writing_is_overruled(dsn: str) -> None:
    reader = open_reader(psycopg.conninfo.make_conninfo(dsn, options="-c default_transaction_read_only=off"))
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        read(reader, lambda conn: conn.execute("create table t ()"))
    forget(reader)


def test_a_frozen_server_is_given_up_and_found_again(dsn: str) -> None:
    reader = open_reader(dsn)
    backend = read(reader, lambda conn: conn.info.backend_pid)
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseError, match="does not answer"):
            read(reader, lambda conn: conn.execute("select 1"), patience=0.3)
        with pytest.raises(DatabaseError, match="cannot be reached"):
            read(reader, lambda conn: conn.execute("select 1"))
    finally:
        os.kill(backend, signal.SIGCONT)
    time.sleep(0.6)
    assert read(reader, lambda conn: conn.execute("select 1 as n").fetchone()) == {"n": 1}
    forget(reader)


def test_a_read_that_takes_too_long_is_refused_alone_while_the_server_answers_others(dsn: str) -> None:
    reader, stop, answered = open_reader(dsn), threading.Event(), list[Any]()

    def ask() -> None:
        while not stop.is_set():
            answered.append(read(reader, lambda conn: conn.execute("select 1 as n").fetchone()))
        forget(reader)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            with pytest.raises(DatabaseError, match="took too long"):
                read(reader, lambda conn: conn.execute("select pg_sleep(1)"), patience=0.3)
            before = len(answered)
            wait_until(lambda: len(answered) > before)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert read(reader, lambda conn: conn.execute("select 1 as n").fetchone()) == {"n": 1}
    forget(reader)


def test_statements_that_together_take_too_long_are_no_outage(dsn: str) -> None:
    reader = open_reader(dsn)

    def work(conn: ReadOnly) -> None:
        for _ in range(3):
            conn.execute("select pg_sleep(0.2)")

    with pytest.raises(DatabaseError, match="took too long"):
        read(reader, work, patience=0.3)
    assert read(reader, lambda conn: conn.execute("select 1 as n").fetchone()) == {"n": 1}
    forget(reader)


@pytest.mark.parametrize("others", [True, False])
def test_a_connection_that_is_not_made_in_time_is_an_outage_only_where_nobody_is_answered(
    dsn: str, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    reader = open_reader(dsn)

    def slowly(dsn: str) -> ReadOnly:
        time.sleep(0.2)
        reader.heard.at = time.monotonic() if others else -1.0
        time.sleep(0.4)
        return connect_reader(dsn)

    monkeypatch.setattr(db, "CONNECTING", 0.4)
    monkeypatch.setattr(db, "connect", slowly)
    with pytest.raises(DatabaseError, match="cannot be reached"):
        read(reader, lambda conn: conn.execute("select 1"))
    assert reader.down is not others
    forget(reader)


@pytest.mark.parametrize("way", ["search", "read_within"])
def test_a_timeout_that_strikes_as_a_statement_ends_does_not_cancel_the_next(dsn: str, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Statements as long as they may be: about every third would have the one after it cancelled."""
    size, ended = 10_000.0, {True: 0, False: 0}

    def long(*_: Any) -> bytes:
        return b"select count(*) from generate_series(1, %d)" % size

    monkeypatch.setattr(reads, "write_page", long)
    with connect_reader(dsn) as conn:
        for _ in range(300):
            try:
                if way == "search":
                    reads.search(conn, Selection(("csv",), {}), Window("id", False, 1), ["id"], 5)
                else:
                    read_within(conn, b"select set_config('statement_timeout', '5', true);" + long(), {})
                size, ended[True] = size * 1.02, ended[True] + 1
            except (psycopg.errors.QueryCanceled, TimeoutError):
                size, ended[False] = size * 0.98, ended[False] + 1
            assert conn.execute("select 1 as n").fetchone() == {"n": 1}
    assert min(ended.values()) > 10, ended


def test_a_burst_of_failures_is_reported_once(client_of: Callable[[str], FlaskClient], capfd: pytest.CaptureFixture[str]) -> None:
    client = client_of("postgresql://nobody@127.0.0.1:1/none")
    errors.reported.clear()
    for _ in range(20):
        client.get("/runs")
    told = capfd.readouterr()
    assert (told.out + told.err).count("database unavailable") == 1


def test_a_database_stopped_and_started_under_load(serve: Callable[..., Any], embedded_home: Path) -> None:
    server = embedded.start(embedded_home)
    with connect(server.dsn, "tests") as conn:
        migrate(conn)
    served = serve(API_DATABASE_URL=server.dsn)
    url, seen, stop = served.url, [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            began = time.monotonic()
            status = requests.get(f"{url}/runs", timeout=20).status_code
            seen.append((status, time.monotonic() - began, began))

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        time.sleep(0.5)
        embedded.stop(server)
        time.sleep(1.5)
        server = embedded.start(embedded_home)
        back = time.monotonic()
        time.sleep(3)
        stop.set()
        for each in asking:
            each.result()
    assert {status for status, _, _ in seen} == {200, 503}
    assert max(took for _, took, _ in seen) < 5
    assert {status for status, _, began in seen if began > back + 2} == {200}
    assert len(served.lines("database unavailable")) <= 2
    embedded.stop(server)


@contextmanager
def frozen(dsn: str) -> Iterator[None]:
    """Stop every process of a server for the length of a block, the one that accepts connections first."""
    with connect(dsn, "freezer") as conn:
        (first,) = conn.execute("select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer as pid").fetchall()
        pids = [first["pid"], *(row["pid"] for row in conn.execute("select pid from pg_stat_activity").fetchall())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def test_a_server_frozen_under_load_is_a_503_in_time_for_everybody_and_served_again_once_it_thaws(
    serve: Callable[..., Any], embedded_home: Path
) -> None:
    server = embedded.start(embedded_home)
    with connect(server.dsn, "tests") as conn:
        migrate(conn)
        conn.execute(RECORD)
    url, seen, stop = serve(API_DATABASE_URL=server.dsn).url, list[tuple[int, float, float]](), threading.Event()

    def ask(number: int) -> None:
        path = ("/data?symbol=x", "/runs", "/health", "/data?min_price=1&sort=name")[number % 4]
        while not stop.is_set():
            began = time.monotonic()
            status = requests.get(f"{url}{path}", timeout=20).status_code
            seen.append((status, time.monotonic() - began, began))
            time.sleep(0.02)

    with ThreadPoolExecutor(16) as pool:
        asking = [pool.submit(ask, number) for number in range(16)]
        try:
            wait_until(lambda: len(seen) > 100)
            with frozen(server.dsn):
                froze = time.monotonic()
                time.sleep(4)  # what is measured: how long requests take meanwhile
                thawed = time.monotonic()
            wait_until(lambda: [status for status, _, began in seen if began > thawed][-32:] == [200] * 32)
        finally:
            stop.set()
        for each in asking:
            each.result()
    embedded.stop(server)
    during = [(status, took) for status, took, began in seen if froze + 0.5 < began < thawed - 1.5]
    assert {status for status, _ in during} == {503}
    assert max(took for _, took in during) < 2.5
    assert median(took for _, took in during) < 0.5, "requests wait in line"
