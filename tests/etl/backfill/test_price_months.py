"""price_history by month: partitions are made when they are needed, by one of several, and dropped when they are old."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from shared.db import Connection, connect
from sql import queries, read_migrations

INSERT = "insert into price_history (source, external_id, observed_at, price_usd, run_id) values ('csv', 'a', %s, 1, 1)"


def months(conn: Connection) -> list[str]:
    query = (
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'price_history'::regclass order by 1"
    )
    return [row["relname"].removeprefix("price_history_") for row in conn.execute(query.encode()).fetchall()]


def where(conn: Connection) -> list[tuple[str, str]]:
    query = "select tableoid::regclass::text as place, observed_at::date::text as day from price_history order by observed_at"
    return [(row["place"].removeprefix("price_history_"), row["day"]) for row in conn.execute(query.encode()).fetchall()]


def test_a_run_makes_the_months_that_its_records_need(etl: Any, conn: Connection, tmp_path: Any) -> None:
    days = ["2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z", "1995-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]
    (tmp_path / "a.csv").write_text("id,price,last_updated\n" + "".join(f"a,{n},{day}\n" for n, day in enumerate(days)))
    assert etl("run", "--source", "csv", CSV_PATHS=str(tmp_path / "a.csv")).code == 0
    assert months(conn) == ["2026_01", "2026_02", "early", "late", "rest"]
    assert where(conn) == [("early", "1995-01-01"), ("2026_01", "2026-01-31"), ("2026_02", "2026-02-01"), ("late", "2099-01-01")]


def test_absurd_dates_make_no_partitions(conn: Connection) -> None:
    years = ",".join(f"'{year}-01-01'" for year in (1900, 2008, 2040, 9999))
    assert conn.execute(f"select ensure_price_history(array[{years}]::date[]) as made".encode()).fetchone() == {"made": 0}
    assert months(conn) == ["early", "late", "rest"]


def test_processes_that_need_the_same_month_at_once_make_it_once(dsn: str, conn: Connection) -> None:
    barrier = threading.Barrier(6)

    def work(number: int) -> int:
        with connect(dsn, "worker") as mine:
            barrier.wait()
            with mine.transaction():
                mine.execute("select ensure_price_history(array['2026-03-01', '2026-04-01']::date[])")
                mine.execute(INSERT.encode(), [f"2026-0{3 + number % 2}-0{number + 1}"])
        return number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(work, range(6))) == list(range(6))
    assert months(conn) == ["2026_03", "2026_04", "early", "late", "rest"]
    assert {place for place, _ in where(conn)} == {"2026_03", "2026_04"}


def test_what_was_written_without_asking_is_moved_when_its_month_is_made(conn: Connection) -> None:
    for day in ("2026-05-01", "2026-05-31", "2026-06-01"):
        conn.execute(INSERT.encode(), [day])
    assert {place for place, _ in where(conn)} == {"rest"}
    conn.execute("select ensure_price_history(array['2026-05-17']::date[])")
    assert [place for place, _ in where(conn)] == ["2026_05", "2026_05", "rest"]
    assert conn.execute("select settle_price_history() as made").fetchone() == {"made": 1}
    assert [place for place, _ in where(conn)] == ["2026_05", "2026_05", "2026_06"]


def test_a_month_that_cannot_be_made_now_does_not_keep_points_from_being_written(dsn: str, conn: Connection) -> None:
    with connect(dsn, "reader") as reader, reader.transaction():
        reader.execute("select count(*) from price_history_rest")
        with conn.transaction():
            assert conn.execute("select ensure_price_history(array['2026-05-01']::date[]) as made").fetchone() == {"made": 0}
            conn.execute(INSERT.encode(), ["2026-05-01"])
    assert where(conn) == [("rest", "2026-05-01")]
    assert conn.execute("select ensure_price_history(array['2026-05-01']::date[]) as made").fetchone() == {"made": 1}


def test_old_months_are_dropped_and_the_month_of_the_limit_stays(conn: Connection) -> None:
    conn.execute("select ensure_price_history(array['2026-01-01', '2026-02-01', '2026-03-01']::date[])")
    for day in ("2001-01-01", "2026-01-31", "2026-02-28", "2026-03-01"):
        conn.execute(INSERT.encode(), [day])
    rows = conn.execute("select drop_price_history('2026-03-15') as name").fetchall()
    assert [row["name"] for row in rows] == ["price_history_2026_01", "price_history_2026_02", "price_history_early"]
    assert where(conn) == [("2026_03", "2026-03-01")]
    assert conn.execute("select drop_price_history('2026-03-15') as name").fetchall() == []


def test_dropping_waits_for_the_batches_under_way(dsn: str, conn: Connection) -> None:
    with connect(dsn, "loader") as loader, loader.transaction():
        loader.execute("select ensure_price_history(array['2026-01-01']::date[])")
        conn.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            conn.execute("select drop_price_history('2026-03-15')")
        loader.execute(INSERT.encode(), ["2026-01-01"])
    assert where(conn) == [("2026_01", "2026-01-01")]


def test_a_month_makes_a_query_touch_its_own_partition_alone(conn: Connection) -> None:
    conn.execute("select ensure_price_history(array(select generate_series('2020-01-01', '2025-12-01', interval '1 month')::date))")
    query = "explain select * from price_history where source = 'csv' and external_id = 'a' and observed_at >= %s and observed_at < %s"
    plan = "\n".join(str(row) for row in conn.execute(query.encode(), ["2024-03-01+00", "2024-04-01+00"]).fetchall())
    assert "price_history_2024_03_pkey" in plan
    assert "Append" not in plan


def test_the_points_of_an_older_schema_are_moved_into_their_months(empty_dsn: str) -> None:
    steps = [step for step in read_migrations() if step.script]
    place = next(number for number, step in enumerate(steps) if b"partition by range (observed_at)" in step.script)
    with connect(empty_dsn, "tests") as conn:
        for step in steps[:place]:
            conn.execute(step.script)
        for day in ("1999-01-01", "2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z"):
            conn.execute(INSERT.encode(), [day])
        conn.execute(steps[place].script)
        assert [spot for spot, _ in where(conn)] == ["early", "2026_01", "2026_02"]


def test_the_history_of_an_asset_is_read_from_the_key_alone(conn: Connection) -> None:
    conn.execute("select ensure_price_history(array['2026-01-01', '2026-02-01']::date[])")
    for month in ("2026-01", "2026-02"):
        conn.execute(INSERT.encode(), [f"{month}-15"])
    conn.execute("vacuum (analyze) price_history")
    for name in ("enable_seqscan", "enable_bitmapscan"):
        conn.execute(f"set {name} = off".encode())
    asked = {"source": "csv", "external_id": "a", "from": "2026-01-01+00", "to": "2026-03-01+00", "limit": 10, "bucket": "1 day"}
    for name in ("list_prices", "list_price_buckets"):
        plan = psycopg.ClientCursor(conn).execute(b"explain " + queries[name], asked).fetchall()
        told = "\n".join(str(row) for row in plan)
        assert "Index Only Scan using price_history_2026_01_pkey" in told
        assert "Seq Scan on price_history" not in told
        assert re.search(r"Index Scan|Bitmap", told) is None
