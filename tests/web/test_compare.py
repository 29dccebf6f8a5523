"""`GET /compare-runs`: differences, and every rule that finds an anomaly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from sql import queries
from tests.web.world import add_drift, add_run, now


def rules(answer: dict[str, Any]) -> list[tuple[str, int]]:
    """Which rules found something in which run."""
    return [(anomaly["rule"], anomaly["run_id"]) for anomaly in answer["anomalies"]]


def test_differences_are_absolute_and_in_per_cent(client: FlaskClient, conn: Connection) -> None:
    a = add_run(conn, took=10, records_inserted=100)
    b = add_run(conn, took=15, records_inserted=40, records_updated=80)
    found = client.get(f"/compare-runs?a={a}&b={b}").get_json()
    assert (found["a"]["id"], found["b"]["id"]) == (a, b)
    assert found["differences"]["records_inserted"] == {"absolute": -60, "percent": -60}
    assert found["differences"]["records_extracted"] == {"absolute": 20, "percent": 20}
    assert found["differences"]["records_updated"] == {"absolute": 80, "percent": None}
    assert found["differences"]["duration_seconds"] == {"absolute": 5, "percent": 50}
    assert found["anomalies"] == []


def test_without_ids_the_last_two_finished_runs_of_each_source_are_compared(client: FlaskClient, conn: Connection) -> None:
    ids = [add_run(conn, source=source) for source in ("csv", "rss", "csv", "rss", "csv", "coingecko")]
    add_run(conn, status="running")
    found = client.get("/compare-runs").get_json()["comparisons"]
    assert [(pair["a"]["id"], pair["b"]["id"]) for pair in found] == [(ids[2], ids[4]), (ids[1], ids[3])]


def test_a_source_that_rests_does_not_cost_every_run_since(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, source="rss")
    conn.execute(
        "insert into etl_runs (source, trigger, status, started_at, finished_at, host, version)"
        " select 'csv', 'cron', 'success', now(), now(), 'h', '1' from generate_series(1, 20000)"
    )
    conn.execute("analyze etl_runs")
    plan = "\n".join(str(row) for row in conn.execute(b"explain " + queries["list_last_pairs"]))
    assert ("etl_runs_by_source_and_trigger" in plan, "etl_runs_pkey" in plan) == (True, False)


def test_without_ids_replays_and_backfills_are_passed_over(client: FlaskClient, conn: Connection) -> None:
    ids = [add_run(conn, trigger=trigger) for trigger in ("cron", "replay", "api", "backfill", "cli", "replay", "backfill")]
    for _ in range(2):
        add_run(conn, source="rss", trigger="replay")
    found = client.get("/compare-runs").get_json()["comparisons"]
    assert [(pair["a"]["id"], pair["b"]["id"]) for pair in found] == [(ids[2], ids[4])]
    page = client.get("/compare-runs", headers={"Accept": "text/plain"}).get_data(as_text=True)
    assert (f"run {ids[2]}" in page, f"run {ids[4]}" in page, f"run {ids[5]}" in page) == (True, True, False)


def test_the_page_of_a_run_offers_the_run_of_its_kind_before_it(client: FlaskClient, conn: Connection) -> None:
    ids = [add_run(conn, trigger=trigger) for trigger in ("cron", "replay", "api", "backfill", "replay")]
    for before, run in ((0, 2), (1, 4)):
        page = client.get(f"/runs/{ids[run]}", headers={"Accept": "text/html"}).get_data(as_text=True)
        assert f"/compare-runs?a={ids[before]}&amp;b={ids[run]}" in page


@pytest.mark.parametrize("name", ["list_last_pairs", "get_usual_run", "get_run_board"])
def test_runs_of_another_trigger_in_between_cost_nothing(conn: Connection, name: str) -> None:
    for _ in range(3):
        add_run(conn, trigger="cron")
    conn.execute(
        "insert into etl_runs (source, trigger, status, started_at, finished_at, host, version)"
        " select 'csv', 'replay', 'success', now(), now(), 'h', '1' from generate_series(1, 20000)"
    )
    newest = add_run(conn)
    conn.execute("vacuum analyze etl_runs")
    told = {"source": "csv", "run_id": newest, "trigger": "cli", "last": 10, "head": 1}
    row = conn.execute(b"explain (analyze, buffers, format json) " + queries[name], told).fetchone()
    plan = row["QUERY PLAN"][0]["Plan"] if row else {}
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60


@pytest.mark.parametrize(("records", "rule"), [(49, True), (51, False), (199, False), (201, True), (0, False)])
def test_half_or_twice_the_usual_number_of_records_is_an_anomaly(client: FlaskClient, conn: Connection, records: int, rule: bool) -> None:
    for usual in (90, 100, 5000, 100, 0):
        a = add_run(conn, records_updated=usual)
    b = add_run(conn, records_updated=records)
    found = client.get(f"/compare-runs?a={a}&b={b}").get_json()
    assert (("record_count", b) in rules(found)) is rule
    if rule:
        anomaly = next(each for each in found["anomalies"] if each["run_id"] == b)
        assert (anomaly["value"], anomaly["median"], anomaly["compared_runs"]) == (records, 100, 4)
        assert anomaly["threshold"] == (50 if records < 100 else 200)
        assert "the median of the last 4 runs of csv" in anomaly["message"]


def test_a_run_that_took_much_longer_than_usual_is_an_anomaly(client: FlaskClient, conn: Connection) -> None:
    ids = [add_run(conn, took=took) for took in (10, 10, 29, 31)]
    assert rules(client.get(f"/compare-runs?a={ids[2]}&b={ids[3]}").get_json()) == [("duration", ids[3])]
    short = [add_run(conn, source="rss", took=took) for took in (1, 10)]
    assert rules(client.get(f"/compare-runs?a={short[0]}&b={short[1]}").get_json()) == []


def test_a_larger_share_of_quarantined_records_is_an_anomaly(client: FlaskClient, conn: Connection) -> None:
    ids = [add_run(conn, status="partial", records_inserted=100 - bad, records_quarantined=bad) for bad in (2, 2, 6, 8)]
    found = client.get(f"/compare-runs?a={ids[2]}&b={ids[3]}").get_json()
    assert rules(found) == [("quarantine_ratio", ids[3])]
    assert (found["anomalies"][0]["value"], found["anomalies"][0]["median"]) == (0.08, 0.02)


def test_changes_seen_for_the_first_time_are_an_anomaly_of_the_run_that_saw_them(client: FlaskClient, conn: Connection) -> None:
    a, b = add_run(conn, ago=600), add_run(conn, ago=60, took=5)
    add_drift(conn, b, "new_field", seen=now() - timedelta(seconds=62))
    add_drift(conn, b, "known_for_long", seen=now() - timedelta(days=9))
    assert rules(client.get(f"/compare-runs?a={a}&b={b}").get_json()) == [("new_drift", b)]


def test_a_run_that_failed_is_an_anomaly_with_its_reason(client: FlaskClient, conn: Connection) -> None:
    a, b = add_run(conn), add_run(conn, status="failed", error_message="upstream said no")
    found = client.get(f"/compare-runs?a={a}&b={b}").get_json()
    assert rules(found) == [("run_failed", b)]
    assert "upstream said no" in found["anomalies"][0]["message"]


def test_runs_are_compared_with_their_like(client: FlaskClient, conn: Connection) -> None:
    for _ in range(3):
        add_run(conn, trigger="backfill", records_inserted=100_000)
    a, b = add_run(conn, trigger="cron", records_inserted=10), add_run(conn, records_inserted=11)
    assert rules(client.get(f"/compare-runs?a={a}&b={b}").get_json()) == []


def test_runs_of_two_sources_may_be_compared(client: FlaskClient, conn: Connection) -> None:
    a, b = add_run(conn, source="csv"), add_run(conn, source="rss")
    assert client.get(f"/compare-runs?a={a}&b={b}").status_code == 200


def test_ids_that_cannot_be_compared_are_refused(client: FlaskClient, conn: Connection) -> None:
    done, running = add_run(conn), add_run(conn, status="running")
    refused = {
        f"a={done}&b={done}": 400,
        f"a={done}": 400,
        f"b={done}": 400,
        f"a={done}&b={running}": 400,
        f"a={done}&b=1000000000": 404,
        f"a={done}&b=0": 400,
        f"a={done}&b={'9' * 30}": 400,
        f"a={done}&b=x": 400,
    }
    assert {query: client.get(f"/compare-runs?{query}").status_code for query in refused} == refused


def test_what_cannot_be_compared_is_named_with_what_to_do(client: FlaskClient, conn: Connection) -> None:
    done, running = add_run(conn), add_run(conn, status="running")
    told = client.get(f"/compare-runs?a={running}&b={done}").get_json()
    assert told["detail"] == f"run {running} is not finished: ask again when it is"
    assert told["errors"] == [{"parameter": "a", "reason": f"run {running} is running"}]
    assert client.get(f"/compare-runs?a=77&b={done}").get_json()["detail"] == "there is no run 77: GET /runs lists them"
    assert "a run cannot be compared with itself" in client.get("/compare-runs?a=77&b=77").get_json()["detail"]
