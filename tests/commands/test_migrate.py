"""`kasparro-etl migrate`: the schema, and the roles that run the ETL and serve the API with what they need and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shared.db import Connection, connect
from shared.migrations import migrate
from sql import queries, read_migrations

numbers = count()
OWNERS = ("make_read_index()", "ensure_price_history('{2026-01-01}')", "make_price_month('2026-01-01', '1s')")
"""Calls that have the owner of the tables make something."""
OLD_RIGHTS = """
    create role {etl} login;
    create role {api} login;
    grant usage on schema ours to {etl}, {api};
    grant select, insert, update, delete on all tables in schema ours to {etl};
    grant usage, select on all sequences in schema ours to {etl};
    grant select on all tables in schema ours to {api};
"""
"""What roles were given before functions were closed to everybody else."""


@pytest.fixture
def roles(conn: Connection, dsn: str, tmp_path: Path) -> Iterator[Callable[..., dict[str, str]]]:
    """Write the addresses of two new roles into files: the role of each part by its name, its address, its file."""
    made: list[str] = []

    def write(password: str = "it's 100% öpen") -> dict[str, str]:
        told: dict[str, str] = {}
        for part in ("etl", "api"):
            name = f'kasparro "{part}" {conn.info.dbname} {next(numbers)}'
            made.append(name)
            told[part] = psycopg.conninfo.make_conninfo(dsn, user=name, password=password)
            (tmp_path / part).write_text(told[part] + "\n")
        return told

    yield write
    for name in made:
        if conn.execute("select from pg_roles where rolname = %s", [name]).fetchone():
            conn.execute(psycopg.sql.SQL("drop owned by {0}; drop role {0}").format(psycopg.sql.Identifier(name)).as_bytes(conn))


def test_an_empty_database_gets_the_schema_once(etl: Any, empty_dsn: str) -> None:
    first = etl("migrate", DATABASE_URL=empty_dsn)
    again = etl("migrate", DATABASE_URL=empty_dsn)
    assert (first.code, again.code) == (0, 0)
    assert "applied 0001_tables" in first.out
    assert again.out == "nothing to apply: the schema is up to date\n"


def test_the_roles_do_their_work_and_nothing_else(etl: Any, roles: Any, conn: Connection) -> None:
    told = roles()
    for _ in range(2):
        done = etl("migrate", "--etl-role", "etl", "--api-role", "api")
        assert done.code == 0, done.err
    with connect(told["etl"], "tests") as loader:
        loader.execute("update etl_runs set error_message = null where false")
        loader.execute("create temporary table scratch (x int)")
        for closed in ("create table x (y int)", "drop table etl_runs", "delete from schema_migrations"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                loader.execute(closed.encode())
    with connect(told["api"], "tests") as reader:
        assert reader.execute("select count(*) as n from unified_data").fetchone() == {"n": 0}
        reader.read_only = False
        with reader.transaction():
            (queued,) = reader.execute("select * from enqueue_run(array['csv'], null, null)").fetchall()
        assert queued["outcome"] == "queued"
        for closed in OWNERS:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), reader.transaction():
                reader.execute(f"select {closed}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege), reader.transaction():
            reader.execute("delete from etl_runs")
    with connect(told["api"], "tests") as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader.execute("select * from enqueue_run(array['csv'], null, null)")


def test_a_run_and_its_worker_need_no_more_than_the_role_of_the_etl(
    etl: Any, roles: Any, conn: Connection, offline: dict[str, str], tmp_path: Path
) -> None:
    told = roles()
    conn.execute("revoke execute on all functions in schema public from public")  # as a guarded database has it for those to come, too
    assert etl("migrate", "--etl-role", "etl", "--api-role", "api").code == 0
    with connect(told["api"], "tests") as reader:
        assert reader.execute(queries["list_duration_bounds"]).fetchall()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("symbol,name,price,date\nBTC,Bitcoin,1.5,2019-03-01\n")
    for command in (("run", "--source", "all"), ("worker", "--once"), ("status",), ("prune", "--raw-older-than", "1d")):
        done = etl(*command, **offline | {"DATABASE_URL": told["etl"]})
        assert done.code == 0, done.err


def test_a_role_that_was_set_up_before_runs_on_in_any_schema_and_one_that_reads_has_nothing_made(
    etl: Any, roles: Any, empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [step for step in read_migrations() if step.name < "0020"]
    names, inside = roles(), psycopg.conninfo.make_conninfo(empty_dsn, options="-c search_path=ours")
    for part, address in names.items():
        names[part] = psycopg.conninfo.conninfo_to_dict(address)["user"]
    loader, reader = (psycopg.sql.Identifier(names[part]) for part in ("etl", "api"))
    with connect(inside, "tests") as owner:
        owner.execute("create schema ours")
        with monkeypatch.context() as patch:
            patch.setattr("shared.migrations.read_migrations", lambda: before)
            migrate(owner)
        owner.execute(psycopg.sql.SQL(OLD_RIGHTS).format(etl=loader, api=reader).as_bytes(owner))
        owner.execute("alter default privileges revoke execute on functions from public")
        assert migrate(owner) == [step.name for step in read_migrations() if step.name >= "0020"]
        (tmp_path / "a.csv").write_text("symbol,name,price,date\nBTC,Bitcoin,1.5,2019-03-01\n")
        done = etl("run", "--source", "csv", CSV_PATHS="a.csv", DATABASE_URL=psycopg.conninfo.make_conninfo(inside, user=names["etl"]))
        assert (done.code, "indexes left" in done.err) == (0, False), done.err
        made = owner.execute(
            "select to_regclass('unified_data_by_words') as words, to_regclass('price_history_2019_03') as month"
        ).fetchone()
        assert made == {"words": "unified_data_by_words", "month": "price_history_2019_03"}
        with connect(psycopg.conninfo.make_conninfo(inside, user=names["api"]), "tests") as conn:
            for closed in OWNERS:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(f"select {closed}".encode())
        owner.execute(psycopg.sql.SQL("drop owned by {}, {}").format(loader, reader).as_bytes(owner))


def test_doctor_is_content_with_the_roles_rights_and_names_the_command_that_gives_them(
    etl: Any, roles: Any, conn: Connection, offline: dict[str, str], tmp_path: Path
) -> None:
    told = roles()
    assert etl("migrate", "--etl-role", "etl", "--api-role", "api").code == 0

    def doctor() -> dict[str, Any]:
        done = etl("doctor", "--offline", "--json", **offline | {"DATABASE_URL": told["etl"]})
        return next(row for row in done.objects if row.get("name") == "role")

    assert doctor()["state"] == "ok", doctor()
    with psycopg.connect(told["etl"]) as loader:
        name = psycopg.sql.Identifier(loader.info.user)
    for function in ("make_read_index", "write_record"):
        conn.execute(psycopg.sql.SQL(f"revoke execute on function {function} from public, {{}}").format(name).as_bytes(conn))
        closed = doctor()
        assert (closed["state"], function in closed["finding"]) == ("failure", True)
    conn.execute(psycopg.sql.SQL("revoke insert on etl_runs from {}").format(name).as_bytes(conn))
    closed = doctor()
    assert (closed["state"], "etl_runs" in closed["finding"], "schema_migrations" in closed["finding"]) == ("failure", True, False)
    assert "kasparro-etl migrate --etl-role" in closed["fix"]


def test_an_address_that_only_reads_is_named_as_the_wrong_one_by_run_and_worker(etl: Any, roles: Any, offline: dict[str, str]) -> None:
    told = roles()
    assert etl("migrate", "--api-role", "api").code == 0
    for command in (("run", "--source", "rss"), ("worker", "--once"), ("worker",)):
        done = etl(*command, **offline | {"DATABASE_URL": told["api"]})
        assert (done.code, "may only read" in done.err, "run the same command again" in done.err) == (4, True, False), done.err
        assert "set DATABASE_URL to the ETL's address" in done.err
        assert len(done.err.splitlines()) == 1


def test_who_may_not_change_the_schema_has_nothing_to_do_or_is_sent_to_the_owner(etl: Any, roles: Any, conn: Connection) -> None:
    told = roles()
    assert etl("migrate", "--etl-role", "etl", "--api-role", "api").code == 0
    for part in ("etl", "api"):
        done = etl("migrate", DATABASE_URL=told[part])
        assert (done.code, done.out) == (0, "nothing to apply: the schema is up to date\n"), done.err
    conn.execute("delete from schema_migrations where name = (select max(name) from schema_migrations)")
    for part in ("etl", "api"):
        done = etl("migrate", DATABASE_URL=told[part])
        assert (done.code, done.out, "as the owner of the tables" in done.err) == (4, "", True), done.err
        assert len(done.err.splitlines()) == 1


def test_only_the_owner_prunes_price_history_and_another_is_told_before_it_is_asked(etl: Any, roles: Any, conn: Connection) -> None:
    told = roles()
    assert etl("migrate", "--etl-role", "etl").code == 0
    conn.execute("insert into price_history (source, external_id, observed_at, price_usd, run_id) values ('csv', 'a', '2001-01-01', 1, 1)")
    old = ("prune", "--price-history-older-than", "60d")
    assert etl(*old, "--dry-run", DATABASE_URL=told["etl"]).code == 0
    done = etl(*old, "--yes", DATABASE_URL=told["etl"])
    assert (done.code, "only the owner of the tables drops" in done.err, done.out) == (2, True, ""), done.err
    assert conn.execute("select count(*) as n from price_history").fetchone() == {"n": 1}


def test_tables_of_later_migrations_are_open_to_the_roles(etl: Any, roles: Any, conn: Connection) -> None:
    told = roles()
    assert etl("migrate", "--etl-role", "etl", "--api-role", "api").code == 0
    conn.execute("create table later (id bigint generated always as identity primary key)")
    with connect(told["etl"], "tests") as loader:
        loader.execute("insert into later default values")
    with connect(told["api"], "tests") as reader:
        assert reader.execute("select id from later").fetchall() == [{"id": 1}]


def test_a_new_password_replaces_the_old_one_and_never_reaches_the_server(etl: Any, roles: Any, conn: Connection) -> None:
    roles("first")
    assert etl("migrate", "--etl-role", "etl").code == 0
    row = conn.execute("select rolname, rolpassword from pg_authid where rolname like 'kasparro \"etl\"%'").fetchone()
    assert row
    assert str(row["rolpassword"]).startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("postgresql://a:p@ss@host/db", "%40"),
        ("postgresql:///db", "names no user"),
        ("mysql://x", "expected a Postgres address"),
    ],
)
def test_a_bad_address_of_a_role_is_one_line_without_it(etl: Any, tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "etl").write_text(content)
    done = etl("migrate", "--etl-role", "etl")
    assert done.code == 2
    assert said in done.err
    assert "p@ss" not in done.err
    assert len(done.err.splitlines()) == 1


def test_the_owner_is_not_taken_for_one_of_the_roles(etl: Any, dsn: str, tmp_path: Path, conn: Connection) -> None:
    owner = conn.execute("select current_user as name").fetchone()
    assert owner
    (tmp_path / "api").write_text(psycopg.conninfo.make_conninfo(dsn, user=owner["name"]))
    done = etl("migrate", "--api-role", "api")
    assert done.code == 4
    assert "owner of the tables" in done.err
