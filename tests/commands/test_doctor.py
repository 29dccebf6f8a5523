"""`kasparro-etl doctor`: every check finds what it looks for, and names the remedy."""

from __future__ import annotations

import os
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from etl.doctor import machine, server, upstreams
from etl.doctor.finding import Finding, line
from etl.lease import begin_run
from etl.sources import SOURCES
from shared.db import Connection, connect
from shared.settings import Settings, read_settings

CSV = "id,symbol,name,price\nbtc,BTC,Bitcoin,1.5\n"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def world(offline: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "assets.csv").write_text(CSV)
    return offline | {"CSV_PATHS": str(tmp_path / "*.csv")}


def states(done: Any) -> dict[str, str]:
    return {row["name"]: row["state"] for row in done.objects if row["type"] == "check"}


def found(done: Any, name: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in done.objects if row.get("name") == name)
    return row


def test_every_part_is_checked_and_each_line_has_its_mark(etl: Any, world: dict[str, str], conn: Connection) -> None:
    done = etl("doctor", "--json", **world)
    told = states(done)
    off = {row["setting"] for row in conn.execute("select setting from pg_settings where name in ('fsync', 'full_page_writes')").fetchall()}
    assert told.pop("durability") in (["failure"] if "off" in off else ["ok", "warning"])
    assert told.pop("role") in ("ok", "warning")
    assert told.pop("data disk", "ok") in ("ok", "warning", "failure")
    assert told == dict.fromkeys(
        ("temporary", "csv", "connection", "schema", "timeouts", "pooler", "clock", "leases"), "ok"
    ) | dict.fromkeys(("coinpaprika", "coingecko", "rss"), "ok")
    assert all(row["fix"] for row in done.objects if row["type"] == "check" and row["state"] != "ok")
    assert done.objects[-1] == {"type": "summary", "exit_code": done.code}
    plain = etl("doctor", **world).out.splitlines()
    assert len(plain) == len(done.objects) - 1
    assert {text[0] for text in plain} <= set("✔!✘")


def test_each_upstream_is_asked_once_within_the_budget_and_only_for_what_is_new(
    etl: Any, world: dict[str, str], upstream: Any, conn: Connection
) -> None:
    etl("doctor", **world)
    assert [request["path"] for request in upstream.log] == ["/p/tickers", "/g/coins/markets", "/feed"]
    assert all("if-modified-since" in request["headers"] for request in upstream.log)
    assert conn.execute("select cardinality(calls) as n from etl_rate_limits").fetchall() == [{"n": 1}] * 3
    assert etl("doctor", "--offline", **world).code in (0, 3)
    assert len(upstream.log) == 3


def test_a_rejected_key_and_an_upstream_that_is_gone_are_failures_with_the_remedy(etl: Any, world: dict[str, str], upstream: Any) -> None:
    upstream.answers["/g/coins/markets"] = (401, {}, b'{"status":{"error_code":10002,"error_message":"API Key Missing"}}')
    done = etl("doctor", "--json", **world | {"RSS_FEED_URLS": "http://127.0.0.1:1/feed"}, COINPAPRIKA_API_KEY="CANARY-1")
    assert done.code == 3
    assert (found(done, "coingecko")["state"], found(done, "coingecko")["fix"]) == ("failure", "set COINGECKO_API_KEY")
    assert found(done, "rss")["state"] == "failure"
    assert "the key is accepted" in found(done, "coinpaprika")["finding"]
    assert "CANARY" not in done.out + done.err


def test_every_feed_is_asked_for_itself(etl: Any, world: dict[str, str], upstream: Any) -> None:
    feeds = f"{upstream.url}/feed,{upstream.url}/gone"
    done = etl("doctor", "--json", **world | {"RSS_FEED_URLS": feeds})
    assert [row["state"] for row in done.objects if row.get("name") == "rss"] == ["ok", "failure"]


def test_a_budget_that_is_used_up_is_no_failure_and_nobody_is_asked(conn: Connection, upstream: Any) -> None:
    conn.execute("insert into etl_rate_limits (source, calls) values ('coingecko', array_fill(clock_timestamp(), array[10]))")
    settings = read_settings({"COINGECKO_BASE_URL": upstream.url})
    (told,) = upstreams.ask(settings, SOURCES["coingecko"], conn)
    assert (told.mark, upstream.log) == ("!", [])


def test_an_unreachable_database_is_exit_4_and_the_other_checks_still_run(etl: Any, world: dict[str, str]) -> None:
    done = etl("doctor", "--json", **world | {"DATABASE_URL": "postgresql://someone:CANARY-1@127.0.0.1:1/none"})
    assert done.code == 4
    assert states(done) == {"temporary": "ok", "csv": "ok", "database": "failure", "coinpaprika": "ok", "coingecko": "ok", "rss": "ok"}
    assert "CANARY" not in done.out + done.err


def test_a_schema_that_is_not_there_is_a_failure_with_the_command(etl: Any, world: dict[str, str], empty_dsn: str) -> None:
    done = etl("doctor", "--json", **world | {"DATABASE_URL": empty_dsn})
    assert (done.code, found(done, "schema")["fix"]) == (3, "run `kasparro-etl migrate`")
    assert states(done)["rss"] == "ok"


def test_a_role_without_rights_is_a_failure(etl: Any, dsn: str, conn: Connection) -> None:
    role = f"doctored_{os.getpid()}"
    conn.execute(f"create role {role} login".encode())
    try:
        conn.execute(f"grant select on all tables in schema public to {role}".encode())
        done = etl("doctor", "--offline", "--json", DATABASE_URL=make_conninfo(dsn, user=role))
        assert (done.code, states(done)["role"]) == (3, "failure")
        assert "kasparro-etl migrate --etl-role" in found(done, "role")["fix"]
    finally:
        conn.execute(f"drop owned by {role}".encode())
        conn.execute(f"drop role {role}".encode())


@pytest.mark.parametrize(
    ("setting", "mark"),
    [
        ("statement_timeout = '5s'", "!"),
        ("idle_session_timeout = '30s'", "!"),
        ("default_transaction_read_only = on", "✘"),
        ("statement_timeout = '5min'", "✔"),
    ],
)
def test_bounds_that_cut_a_run_are_found(conn: Connection, setting: str, mark: str) -> None:
    conn.execute(f"set {setting}".encode())
    assert [told.mark for told in server.timeouts(conn)] == [mark]


@pytest.mark.parametrize(
    ("settings", "mark"),
    [
        ({}, "✔"),
        ({"fsync": "off"}, "✘"),
        ({"full_page_writes": "off"}, "✘"),
        ({"synchronous_commit": "off"}, "!"),
        ({"data_checksums": "off"}, "!"),
    ],
)
def test_settings_that_lose_what_was_committed_are_found(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], mark: str
) -> None:
    sound = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on"}
    monkeypatch.setattr(server, "server_settings", lambda _: sound | settings)
    assert [told.mark for told in server.durability(conn)] == [mark]


@pytest.mark.parametrize(("seconds", "mark"), [(0, "✔"), (5, "!"), (-5, "!"), (500, "✘")])
def test_a_clock_that_is_wrong_is_found(conn: Connection, monkeypatch: pytest.MonkeyPatch, seconds: int, mark: str) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(server, "datetime", Wrong)
    assert server.clock(conn).mark == mark


def test_a_pooler_in_between_is_found(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.pooler(conn).mark == "✔"
    monkeypatch.setattr(server, "backend", lambda _: None)
    assert server.pooler(conn).mark == "!"


def test_a_run_that_went_away_and_slow_batches_are_found(dsn: str, conn: Connection) -> None:
    with connect(dsn, "gone") as gone:
        begin_run(gone, "csv", "cli")
    conn.execute("update etl_checkpoints set lease_expires_at = clock_timestamp() - interval '1 hour'")
    assert [told.mark for told in server.leases(Settings(), conn)] == ["!", "✔"]
    conn.execute("""insert into etl_batches (source, seq, run_id, epoch, raw_id, first_position, next_position,
                                             inserted, updated, unchanged, quarantined, committed_at)
                    select 'csv', n, 1, 1, 1, 0, 0, 0, 0, 0, 0, now() + n * interval '30 seconds' from generate_series(1, 2) n""")
    assert [told.mark for told in server.leases(Settings(), conn)] == ["!", "!"]


@pytest.mark.parametrize(("free", "mark"), [(10**12, "✔"), (10**9, "!"), (10**7, "✘")])
def test_a_disk_that_fills_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, mark: str) -> None:
    monkeypatch.setattr("etl.doctor.machine.shutil.disk_usage", lambda _: Usage(10**12, 0, free))
    assert machine.disk("disk", tmp_path / "not" / "yet").mark == mark


def test_a_home_that_cannot_be_written_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.home(tmp_path / "new").mark == "✔"
    monkeypatch.setattr("etl.doctor.machine.os.access", lambda *_: False)
    assert machine.home(tmp_path / "new").mark == "✘"


def test_files_that_are_missing_are_found(tmp_path: Path) -> None:
    (told,) = machine.files(read_settings({"CSV_PATHS": str(tmp_path / "*.csv")}))
    assert (told.mark, "no such file" in told.found) == ("✘", True)


def test_a_secret_that_others_may_read_is_found(etl: Any, world: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("CANARY-1")
    for mode, state in ((0o644, "warning"), (0o600, "ok")):
        file.chmod(mode)
        done = etl("doctor", "--offline", "--json", **world, COINGECKO_API_KEY_FILE=str(file))
        assert states(done)["secrets"] == state
        assert "CANARY" not in done.out


def test_a_finding_is_one_line_with_its_remedy(conn: Connection) -> None:
    assert line(server.clock(conn)).startswith("✔ clock")
    assert line(Finding("!", "clock", "late", "set it")) == "! clock         late: set it"
    assert datetime.now(UTC).tzinfo
