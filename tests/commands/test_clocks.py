"""Clocks and time zones: a wall clock that jumps takes no lease and moves nothing back; a zone changes nothing that is stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from etl.lease import TTL, begin_run
from shared.db import Connection
from sql import queries
from tests.trials.oracle import picture

ZONES = ("Asia/Kathmandu", "America/New_York", "Pacific/Kiritimati")
JUMPING = """
import os, time
real = time.time
def jumped():
    return real() + float(os.environ["JUMP"]) if os.path.exists(os.environ["JUMPED"]) else real()
time.time = jumped
from datetime import datetime as known
import datetime as module
class kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, known)
class datetime(known, metaclass=kind):
    @classmethod
    def now(cls, tz=None):
        return known.fromtimestamp(time.time(), tz)
import sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "etl.cli":
            sys.meta_path.remove(Finder)
            import etl.sources, etl.sources.coingecko, etl.sources.coinpaprika, etl.sources.rss, etl.sources.csv_files.reading, etl.refusal
            for one in list(sys.modules.values()):
                if one.__name__.startswith("etl.") and getattr(one, "datetime", None) is known:
                    one.datetime = datetime
        return None
sys.meta_path.insert(0, Finder)
"""
"""Lets the wall clock of a process jump once the file named JUMPED is there."""
ROWS = [
    "symbol,name,price,last_updated",
    "A,Before the change,1.5,2026-11-01 01:30:00",
    "B,With a zone,2.5,2026-11-01T01:30:00-04:00",
    "C,The same wall clock an hour later,3.5,2026-11-01T01:30:00-05:00",
    "D,In the gap,4.5,2026-03-08 02:30:00",
    "E,A date alone,5.5,2026-11-01",
    "F,Seconds,6.5,1793511000",
]
FEED = (
    "<rss version='2.0'><channel><title>t</title>{}</channel></rss>".format(
        "".join(
            f"<item><title>{n}</title><guid>g{n}</guid><pubDate>{at}</pubDate></item>"
            for n, at in enumerate(("Sun, 01 Nov 2026 01:30:00 EDT", "Sun, 01 Nov 2026 01:30:00 -0500", "Sun, 08 Mar 2026 02:30:00 GMT"))
        )
    )
).encode()


@pytest.mark.parametrize("jump", [-3600, 86400])
def test_a_wall_clock_that_jumps_in_the_middle_of_a_run_changes_nothing(
    etl: Any, offline: dict[str, str], upstream: Any, dsn: str, conn: Connection, tmp_path: Path, jump: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    clock = {"PYTHONPATH": str(tmp_path), "JUMP": str(jump), "JUMPED": str(tmp_path / "jumped")}
    assert etl("run", "--source", "coinpaprika,coingecko,rss", **offline, **clock).code == 0
    before = conn.execute("select external_id, source_updated_at, price_usd from unified_data order by 1").fetchall()
    tickers = upstream.answers["/p/tickers"]

    def answer(_request: Any) -> Any:
        (tmp_path / "jumped").touch()
        return tickers

    upstream.answers["/p/tickers"] = answer
    jumped = etl("run", "--source", "coinpaprika,coingecko,rss", "--full-refresh", "--json", **offline, **clock)
    assert jumped.code == 0, jumped.err
    assert all(0 <= run["duration_seconds"] < 60 for run in jumped.objects[-1]["runs"])
    assert conn.execute("select external_id, source_updated_at, price_usd from unified_data order by 1").fetchall() == before
    assert conn.execute("select count(*) as n from etl_runs where duration_seconds < 0 or duration_seconds > 60").fetchone() == {"n": 0}
    begin_run(conn, "rss", "cli")
    assert etl("run", "--source", "rss", **offline, **clock).code == 5
    (row,) = conn.execute("select lease_expires_at - clock_timestamp() as left from etl_checkpoints where source = 'rss'").fetchall()
    assert 0 < row["left"].total_seconds() <= TTL


def test_the_wall_clock_of_the_test_above_really_jumps(etl: Any, offline: dict[str, str], conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    (tmp_path / "jumped").touch()
    clock = {"PYTHONPATH": str(tmp_path), "JUMP": "86400", "JUMPED": str(tmp_path / "jumped")}
    assert etl("run", "--source", "coinpaprika", **offline, **clock).code == 0
    (row,) = conn.execute("select fetched_at - clock_timestamp() as ahead from raw_payloads").fetchall()
    assert 86000 < row["ahead"].total_seconds() < 87000


def test_the_statements_of_the_lease_know_no_clock_but_the_databases() -> None:
    for name in (
        "acquire_lease",
        "retake_lease",
        "advance_checkpoint",
        "renew_lease",
        "end_sleeper",
        "begin_run",
        "finish_run",
        "abandon_run",
    ):
        text = queries[name].decode()
        assert re.findall(r"%\((\w*(?:time|now|_at|date)\w*)\)s", text) == [], name
        assert "clock_timestamp()" in text, name


@pytest.mark.parametrize("zone", ZONES)
def test_what_is_stored_does_not_depend_on_the_zone_of_the_process_or_of_the_database(
    etl: Any, upstream: Any, dsn: str, conn: Connection, tmp_path: Path, zone: str
) -> None:
    (tmp_path / "a.csv").write_text("\n".join(ROWS) + "\n")
    upstream.answers["/feed"] = (200, {"Content-Type": "application/rss+xml"}, FEED)
    environ = {"CSV_PATHS": str(tmp_path / "*.csv"), "RSS_FEED_URLS": f"{upstream.url}/feed"}
    assert etl("run", "--source", "csv,rss", TZ="UTC", **environ).code == 0
    dates = "select external_id, source_updated_at at time zone 'UTC' as at from unified_data order by 1"
    clean, known = picture(dsn), conn.execute(dates).fetchall()
    assert "2026-11-01 05:30:00" in str([str(row["at"]) for row in known])
    conn.execute("truncate unified_data, price_history, quarantined_records, raw_payloads, etl_batches")
    conn.execute("update etl_checkpoints set position = '{}', seq = 0")
    conn.execute(f"alter database {conn.info.dbname} set timezone to '{zone}'".encode())
    assert etl("run", "--source", "csv,rss", TZ=zone, PGTZ=zone, **environ).code == 0
    assert conn.execute(dates).fetchall() == known
    again = picture(dsn)
    assert {name: again[name] for name in ("quarantined", "raw")} == {name: clean[name] for name in ("quarantined", "raw")}
    assert len(again["served"]) == len(clean["served"]) == len(ROWS) - 1 + 3 - len(clean["quarantined"])
