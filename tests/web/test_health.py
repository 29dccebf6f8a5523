"""`GET /health`, `/health/live`, `/health/ready`: what a probe is told when the database answers; test_database.py has the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.db import Connection
from tests.web.world import add_run

NAMES = ["coinpaprika", "coingecko", "csv", "rss"]


def stand(client: FlaskClient, source: str = "csv") -> dict[str, Any]:
    """What is told of one source."""
    found = client.get("/health").get_json()["sources"]
    return next(dict(each) for each in found if each["source"] == source)


def test_sources_that_never_ran_are_known_and_no_fault(client: FlaskClient) -> None:
    health = client.get("/health").get_json()
    assert [source["source"] for source in health["sources"]] == NAMES
    assert {source["state"] for source in health["sources"]} == {"new"}
    assert (health["status"], health["etl_status"], health["database_connected"]) == ("healthy", "never_run", True)
    assert health["version"] == "0.1.0"


def test_a_source_loaded_by_the_pipeline_is_up_and_fresh(client: FlaskClient, filled: None) -> None:
    told = stand(client)
    assert (told["state"], told["last_run_status"], told["stale"]) == ("up", "success", False)
    assert 0 <= told["lag_seconds"] < 600
    assert client.get("/health").get_json()["etl_status"] == "idle"


@pytest.mark.parametrize("status", ["failed", "refused", "abandoned"])
def test_a_source_whose_last_run_failed_degrades_the_whole(client: FlaskClient, conn: Connection, status: str) -> None:
    add_run(conn, ago=120)
    add_run(conn, status=status)
    health = client.get("/health")
    assert (health.status_code, health.get_json()["status"], health.get_json()["etl_status"]) == (200, "degraded", "failed")
    assert stand(client)["last_success_at"] is not None
    assert stand(client)["state"] == ("refused" if status == "refused" else "failed")


def test_a_source_without_success_for_two_intervals_is_stale(app: Callable[..., Flask], conn: Connection) -> None:
    add_run(conn, ago=130)
    late = app(ETL_INTERVAL_MINUTES="1").test_client()
    assert (stand(late)["state"], stand(late)["stale"], late.get("/health").get_json()["status"]) == ("late", True, "degraded")
    assert late.get("/health").get_json()["etl_status"] == "idle"
    assert stand(app(ETL_INTERVAL_MINUTES="2").test_client())["stale"] is False


def test_a_backfill_or_replay_says_nothing_of_freshness(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, trigger="backfill")
    add_run(conn, trigger="replay", status="failed")
    assert stand(client)["state"] == "new"


def test_a_run_under_way_is_running_until_its_lease_ends(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn, status="running")
    lease = (
        "insert into etl_checkpoints (source, run_id, lease_expires_at) values ('csv', %s, clock_timestamp() + make_interval(secs => %s))"
    )
    conn.execute(lease, [run_id, 60])
    assert stand(client)["state"] == client.get("/health").get_json()["etl_status"] == "running"
    conn.execute("update etl_checkpoints set lease_expires_at = clock_timestamp() - interval '1 second'")
    assert (stand(client)["state"], client.get("/health").get_json()["status"]) == ("stalled", "degraded")
    assert client.get("/health").get_json()["etl_status"] == "failed"


def test_a_cancelled_first_run_counts_as_none(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, status="cancelled")
    assert stand(client)["state"] == "new"


def test_probes_are_answered_and_never_cached(client: FlaskClient) -> None:
    assert client.get("/health/live").get_json() == {"status": "alive"}
    assert client.get("/health/ready").get_json() == {"status": "ready"}
    assert client.get("/health").headers["Cache-Control"] == "no-store"


def test_a_run_that_waited_in_the_queue_counts_by_its_end_not_by_its_id(client: FlaskClient, conn: Connection, etl: Any) -> None:
    waited = add_run(conn, status="queued", trigger="api")
    add_run(conn, ago=120)
    conn.execute(
        "update etl_runs set status = 'failed', started_at = clock_timestamp(), finished_at = clock_timestamp() where id = %s", [waited]
    )
    assert stand(client)["state"] == "failed"
    told = {row["source"]: row["state"] for row in etl("status", "--json").objects}
    assert told["csv"] == "failed"


@pytest.mark.parametrize(
    ("runs", "word"),
    [
        ([], "new"),
        (["cancelled"], "new"),
        (["running"], "running"),
        (["success"], "up"),
        (["success", "cancelled"], "up"),
        (["success", "failed"], "failed"),
        (["success", "refused"], "refused"),
        (["success", "abandoned"], "failed"),
        (["failed", "partial"], "up"),
        (["old"], "late"),
        (["old", "running"], "running"),
        (["old", "stalled"], "stalled"),
    ],
)
def test_a_source_stands_by_the_same_word_wherever_it_is_told(
    client: FlaskClient, conn: Connection, etl: Any, runs: list[str], word: str
) -> None:
    for number, run in enumerate(runs):
        status = {"old": "success", "stalled": "running"}.get(run, run)
        add_run(conn, status=status, ago=50_000 if run == "old" else 600 - number)
    conn.execute(
        "insert into etl_checkpoints (source, lease_expires_at) values ('csv', clock_timestamp() + make_interval(secs => %s))",
        [-60 if "stalled" in runs else 60],
    )
    metrics = client.get("/metrics").get_data(as_text=True)
    assert {
        "health": stand(client)["state"],
        "status": {row["source"]: row["state"] for row in etl("status", "--json").objects}["csv"],
        "metrics": re.findall(r'etl_source_state\{source="csv",state="(\w+)"\} 1.0', metrics),
        "dashboard": re.findall(r"(?m)^csv +(\w+)", client.get("/", headers={"Accept": "text/plain"}).get_data(as_text=True)),
    } == {"health": word, "status": word, "metrics": [word], "dashboard": [word]}
