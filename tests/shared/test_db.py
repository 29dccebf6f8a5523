"""The door to Postgres: how connections are made, and what is said when there is none or no longer one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shared import embedded
from shared.db import Connection, Json, connect, database, driver_errors_named, fetch_one, linked, one_line
from shared.errors import DatabaseError, SettingsError
from shared.settings import read_settings

HIDDEN = "hunter2-hunter2"


def failure(dsn: str) -> str:
    """What is said of an address that nobody answers."""
    with pytest.raises(DatabaseError) as refused:
        connect(dsn, "tests")
    return str(refused.value)


@pytest.fixture
def closed_port() -> int:
    """A port that refuses connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_connection_commits_by_itself_shows_its_name_and_reads_rows_as_dicts(dsn: str) -> None:
    with connect(dsn, "kasparro-etl test") as conn, connect(dsn, "other") as other:
        conn.execute("create table t as select 1 as i")
        row = fetch_one(other, b"select application_name as name from pg_stat_activity where pid = %(pid)s", {"pid": conn.info.backend_pid})
        assert row == {"name": "kasparro-etl test"}
        assert fetch_one(other, b"select i from t") == {"i": 1}
        assert fetch_one(other, b"select i from t where i = 2") is None


def test_a_transaction_sees_what_others_committed_while_it_waited(dsn: str) -> None:
    with connect(dsn, "tests") as conn:
        conn.execute(f"alter database {conn.info.dbname} set default_transaction_isolation = 'serializable'".encode())
    with connect(dsn, "tests") as conn, conn.transaction():
        assert fetch_one(conn, b"show transaction_isolation") == {"transaction_isolation": "read committed"}


def test_no_statement_is_prepared_so_that_a_pooler_may_stand_between(conn: Connection) -> None:
    for number in range(10):
        conn.execute("select %s::int", [number])
    assert fetch_one(conn, b"select count(*) as n from pg_prepared_statements") == {"n": 0}


def test_json_goes_in_and_comes_out(conn: Connection) -> None:
    assert fetch_one(conn, b"select %(v)s::jsonb as v", {"v": Json({"a": [1, None]})}) == {"v": {"a": [1, None]}}


def test_what_the_address_says_of_a_connection_wins_over_our_defaults(dsn: str) -> None:
    with connect(f"{dsn}&application_name=theirs&connect_timeout=3", "ours") as conn:
        assert conn.info.get_parameters()["application_name"] == "theirs"
        assert conn.info.get_parameters()["connect_timeout"] == "3"
    with connect(dsn, "ours") as conn:
        assert conn.info.get_parameters()["connect_timeout"] == "10"


@pytest.mark.parametrize(
    "dsn", [f"foo={HIDDEN}", f"postgresql://u:{HIDDEN}@h/d?nonsense=1", f"{HIDDEN} x", "postgresql://[::1/d", "host='"]
)
def test_an_address_that_is_none_is_a_matter_of_settings_and_not_repeated(dsn: str) -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: expected a Postgres address") as refused:
        connect(dsn, "tests")
    assert HIDDEN not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_not_there_is_one_line_without_the_password(host: str, closed_port: int) -> None:
    told = failure(f"postgresql://u:{HIDDEN}@{host}:{closed_port}/d")
    assert told.startswith("database unreachable: ")
    assert "refused" in told
    assert str(closed_port) in told
    assert told.endswith("check that it runs, has a connection to spare, and that DATABASE_URL names it")
    assert len(told.splitlines()) == 1
    assert HIDDEN not in told


@pytest.mark.parametrize("address", ["nowhere.invalid/d", "h:port/d", "127.0.0.1:99999/d", f"{'a' * 70}.example/d", "h1,h2:1,2,3/d"])
def test_a_server_that_cannot_be_found_is_one_line_without_the_password(address: str) -> None:
    told = failure(f"postgresql://u:{HIDDEN}@{address}?connect_timeout=2")
    assert told.startswith("database unreachable: ")
    assert len(told.splitlines()) == 1
    assert HIDDEN not in told


def test_a_database_that_does_not_exist_is_named(dsn: str) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(dsn) | {"dbname": "no_such_database"}
    assert 'database "no_such_database" does not exist' in failure(psycopg.conninfo.make_conninfo("", **parts))


def test_a_connection_is_closed_after_its_block_and_after_an_error(dsn: str) -> None:
    held: list[Connection] = []

    def work(mistake: int) -> None:
        with linked(dsn, "tests") as link:
            conn = link.conn
            held.append(conn)
            assert not conn.closed
            assert 1 / mistake

    work(1)
    with pytest.raises(ZeroDivisionError):
        work(0)
    assert [conn.closed for conn in held] == [True, True]


def lose(dsn: str) -> None:
    """Work on a connection that the server ends."""
    with linked(dsn, "tests") as link:
        conn = link.conn
        with connect(dsn, "killer") as killer:
            killer.execute("select pg_terminate_backend(%s, 1000)", [conn.info.backend_pid])
        conn.execute("select 1")


def use_closed(dsn: str) -> None:
    """Work on a connection that was closed."""
    with linked(dsn, "tests") as link:
        conn = link.conn
        conn.close()
        conn.execute("select 1")


def take_too_long(dsn: str) -> None:
    """Run a statement that the server ends."""
    with linked(dsn, "tests") as link:
        conn = link.conn
        conn.execute("set statement_timeout = 10")
        conn.execute("select pg_sleep(1)")


def write_where_none_may(dsn: str) -> None:
    """Write on a server that only reads, as one does after a failover."""
    with linked(dsn, "tests") as link:
        conn = link.conn
        conn.execute("set default_transaction_read_only = on")
        conn.execute("create table t ()")


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (lose, "terminating connection due to administrator command"),
        (use_closed, "database connection lost: the connection is closed"),
        (take_too_long, "the database gave up on a statement: canceling statement due to statement timeout"),
    ],
)
def test_what_happens_to_a_connection_is_one_line_with_the_next_step(dsn: str, work: Callable[[str], None], told: str) -> None:
    with pytest.raises(DatabaseError) as failed:
        work(dsn)
    assert told in str(failed.value)
    assert str(failed.value).endswith("what was committed is safe, run the same command again to go on")
    assert len(str(failed.value).splitlines()) == 1


def write_without_the_right(dsn: str) -> None:
    """Write as a role that may only read."""
    with linked(dsn, "tests") as link:
        link.conn.execute("set role pg_read_all_data")
        link.conn.execute("delete from etl_runs")


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (write_where_none_may, "this connection may only read: cannot execute CREATE TABLE in a read-only transaction"),
        (write_without_the_right, "the role may not do this: permission denied for table etl_runs"),
    ],
)
def test_a_role_that_may_not_write_is_no_matter_of_trying_again(dsn: str, work: Callable[[str], None], told: str) -> None:
    with pytest.raises(DatabaseError) as failed:
        work(dsn)
    assert told in str(failed.value)
    assert not failed.value.passing
    assert "set DATABASE_URL to the ETL's address" in str(failed.value)
    assert len(str(failed.value).splitlines()) == 1


def test_a_mistake_in_a_statement_stays_a_bug(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), driver_errors_named():
        conn.execute("select from nothing")


def test_the_database_of_the_settings_is_opened_when_they_name_one(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "serve", lambda *_args, **_more: pytest.fail("no embedded server is needed"))
    with database(read_settings({"DATABASE_URL": dsn}), "tests") as link:
        assert link.conn.info.dbname == psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]


def test_without_one_the_embedded_database_runs_as_long_as_the_block(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []

    @contextmanager
    def serve(home: Path) -> Iterator[str]:
        steps.append(home)
        yield dsn
        steps.append("stopped")

    monkeypatch.setattr(embedded, "serve", serve)
    with database(read_settings({"KASPARRO_HOME": str(tmp_path)}), "tests") as link:
        assert fetch_one(link.conn, b"select 1 as one") == {"one": 1}
        assert steps == [tmp_path]
    assert steps == [tmp_path, "stopped"]
    assert link.conn.closed


@pytest.mark.parametrize(("text", "line"), [("a\nb", "a"), ("\n  a \n", "a"), ("", "ValueError")])
def test_an_error_is_told_in_one_line(text: str, line: str) -> None:
    assert one_line(ValueError(text)) == line


def test_text_goes_over_as_utf8_whatever_the_address_says(dsn: str) -> None:
    with connect(f"{dsn}&client_encoding=latin1", "tests") as conn:
        assert fetch_one(conn, b"select convert_to(%s, 'UTF8') as sent", ["ö"]) == {"sent": "ö".encode()}  # type: ignore[arg-type]


def test_a_time_is_read_whatever_the_way_the_database_writes_dates(dsn: str) -> None:
    with connect(dsn, "tests") as conn:
        conn.execute(f"alter database {conn.info.dbname} set datestyle = 'German, DMY'".encode())
    with connect(dsn, "tests") as conn:
        row = fetch_one(conn, b"select timestamptz '2026-11-21 12:00:00+00' as at, current_setting('datestyle') as style")
    assert row == {"at": datetime(2026, 11, 21, 12, tzinfo=UTC), "style": "ISO, MDY"}
