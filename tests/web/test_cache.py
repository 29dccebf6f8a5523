"""What the API keeps, for how long, and what a client that has it already is told."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from shared.errors import DatabaseError
from web.cache import Cache, cached, known, remember
from web.catalog import Catalog, Watch, current
from web.db import forget, open_reader
from web.endpoints import read_query

SAMPLE = str(Path(__file__).parents[2] / "data" / "sample_assets.csv")
COUNTS = """select source, source_type, kind, category, status, count(*)::bigint as records from unified_data group by 1, 2, 3, 4, 5"""
KEPT = """select * from data_counts where records <> 0"""


def test_a_value_is_made_once_however_many_ask_at_once() -> None:
    cache, made, together = Cache(1_000_000), list[int](), threading.Barrier(8)

    def make() -> tuple[str, int]:
        made.append(1)
        time.sleep(0.1)
        return "value", 5

    def ask(_: int) -> Any:
        together.wait()
        return cached(cache, "key", make)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"value"}
    assert len(made) == 1


def test_what_could_not_be_made_is_tried_again() -> None:
    cache = Cache(1_000_000)
    with pytest.raises(ZeroDivisionError):
        cached(cache, "key", lambda: (1 // 0, 1))
    assert cached(cache, "key", lambda: ("value", 5)) == "value"


def test_the_cache_stays_within_its_bytes_and_forgets_the_oldest_first() -> None:
    cache = Cache(10_000)
    for number in range(100):
        cached(cache, number, lambda: (None, 500))
        cached(cache, 0, lambda: (None, 500))
    cached(cache, "large", lambda: (None, 9000))
    assert cache.used <= 10_000
    assert cache.used == sum(size for _, size in cache.values.values())
    assert "large" not in cache.values
    assert 0 in cache.values
    assert 1 not in cache.values


def test_a_value_that_is_kept_anew_counts_once() -> None:
    cache = Cache(10_000)
    for size in (500, 700):
        remember(cache, "key", size, size)
    assert known(cache, "key") == 700
    assert cache.used == sum(size for _, size in cache.values.values())
    assert known(cache, "other") is None


def test_a_query_string_is_validated_once(client: FlaskClient, filled: None) -> None:
    before = read_query.cache_info()
    assert client.get("/data?limit=7&fields=id").get_json()["data"] == client.get("/data?limit=7&fields=id").get_json()["data"]
    after = read_query.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)


def test_who_has_a_page_is_told_that_it_stands_until_a_commit_changes_it(
    client: FlaskClient, etl: Any, filled: None, tmp_path: Path
) -> None:
    tag = client.get("/data?limit=3").headers["ETag"]
    assert tag.startswith('W/"')
    for given in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        answer = client.get("/data?limit=3", headers={"If-None-Match": given})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
        assert not {"Content-Type", "Content-Length"} & set(answer.headers.keys())
    assert etl("run", "--source", "csv", "--full-refresh", CSV_PATHS=SAMPLE).code == 0
    time.sleep(0.6)
    assert client.get("/data?limit=3", headers={"If-None-Match": tag}).status_code == 304
    assert client.get("/data?limit=4", headers={"If-None-Match": tag}).status_code == 200


def test_who_asks_whether_anything_has_changed_is_told_what_is_not_there(client: FlaskClient, filled: None) -> None:
    anything = {"If-None-Match": "*"}
    for path, status in {"/data/1": 304, "/data/99999999": 404, "/data/99999999999999999999": 404, "/data?cursor=x": 400}.items():
        assert client.get(path, headers=anything).status_code == status, path
        assert client.head(path, headers=anything).status_code == status, path


def test_a_kept_page_carries_the_id_and_the_time_of_its_own_request(client: FlaskClient, filled: None) -> None:
    first, second = (client.get("/data", headers={"X-Request-ID": name}).get_json() for name in ("one", "two"))
    assert (first["request_id"], second["request_id"]) == ("one", "two")
    assert first["api_latency_ms"] != second["api_latency_ms"]
    assert first["data"] == second["data"]


def test_two_workers_show_a_change_within_a_second(app: Any, conn: Connection, filled: None) -> None:
    workers = [app().test_client() for _ in range(2)]
    before = {worker.get("/data/1").headers["ETag"] for worker in workers}
    assert len(before) == 1
    conn.execute("update unified_data set price_usd = 42 where id = 1")
    time.sleep(0.6)
    answers = [worker.get("/data/1") for worker in workers]
    assert [answer.get_json()["data"]["price_usd"] for answer in answers] == [42, 42]
    assert len(before | {answer.headers["ETag"] for answer in answers}) == 2


def test_a_page_of_one_source_stands_while_another_changes(client: FlaskClient, conn: Connection, filled: None) -> None:
    conn.execute(
        "insert into unified_data (source, source_type, external_id, kind, name, category, raw_id, raw_position, run_id)"
        " values ('other', 'api', 'x', 'asset', 'X', 'c', 1, 1, 1)"
    )
    csv, whole = client.get("/data?source=csv").headers["ETag"], client.get("/data").headers["ETag"]
    conn.execute("update unified_data set rank = 5 where source = 'other'")
    time.sleep(0.6)
    assert client.get("/data?source=csv", headers={"If-None-Match": csv}).status_code == 304
    assert client.get("/data", headers={"If-None-Match": whole}).status_code == 200


def test_nothing_kept_is_served_when_the_database_is_gone(app: Any, filled: None) -> None:
    made = app()
    client = made.test_client()
    assert client.get("/data").status_code == 200
    made.extensions["kasparro"].reader.dsn = "postgresql://127.0.0.1:1/nothing"
    made.extensions["kasparro"].reader.local.conn.close()
    time.sleep(0.6)
    assert client.get("/data").status_code == 503


def test_a_table_that_is_locked_keeps_all_who_ask_at_once_waiting_once(dsn: str, conn: Connection) -> None:
    watch, together = Watch(open_reader(dsn)), threading.Barrier(16)

    def ask(_: int) -> str:
        together.wait()
        try:
            current(watch)
        except DatabaseError as error:
            return str(error)
        finally:
            forget(watch.reader)
        return ""

    with ThreadPoolExecutor(16) as pool, conn.transaction():
        conn.execute("lock table data_versions")
        began = time.monotonic()
        assert {*pool.map(ask, range(16))} == {"the database took too long to answer"}
        assert time.monotonic() - began < 8  # a second each, one after the other, were sixteen


def test_a_catalog_that_was_asked_for_too_early_is_not_shared(dsn: str, filled: None) -> None:
    watch = Watch(open_reader(dsn))
    begun_before = watch.flights.flights[None] = Future()

    def ask() -> Catalog:
        try:
            return current(watch)
        finally:
            forget(watch.reader)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        time.sleep(0.2)
        del watch.flights.flights[None]
        begun_before.set_result(watch.catalog)
        assert [*asking.result().versions] == ["csv"]


def test_the_kept_counts_follow_every_kind_of_write(conn: Connection, etl: Any, offline: dict[str, str]) -> None:
    def agree() -> None:
        order = " order by 1, 2, 3, 4, 5"
        assert conn.execute((COUNTS + order).encode()).fetchall() == conn.execute((KEPT + order).encode()).fetchall()

    assert etl("run", "--source", "coinpaprika,coingecko,rss", **offline).code == 0
    agree()
    conn.execute("update unified_data set category = 'moved', status = 'inactive' where id % 3 = 0")
    agree()
    conn.execute("delete from unified_data where id % 2 = 0")
    agree()
    conn.execute("truncate unified_data")
    agree()


def test_a_run_that_changes_nothing_leaves_the_version_alone(conn: Connection, etl: Any, offline: dict[str, str]) -> None:
    kept = []
    for _ in range(2):
        assert etl("run", "--source", "coinpaprika,coingecko,csv", "--full-refresh", CSV_PATHS=SAMPLE, **offline).code == 0
        kept.append(conn.execute("select * from data_versions order by source").fetchall())
    updated = conn.execute("select sum(records_updated) as n from etl_runs").fetchall()[0]["n"]
    assert etl("run", "--source", "rss", **offline).code == 0
    assert updated == 0
    assert conn.execute("select * from data_versions where source <> 'rss' order by source").fetchall() == kept[0] == kept[1]
    assert len(kept[0]) == 3
