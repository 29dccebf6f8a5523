"""`GET /metrics`, `/observability/metrics` and its JSON form."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from shared.db import Connection
from tests.web.world import add_drift, add_quarantined, add_run

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
ABBREVIATED = re.compile(r"_(ms|msec|milliseconds|us|minutes|hours|kb|mb|kilobytes|percent|count_total)(_|$)")
ORDER = ("source", "outcome", "status")
LABELS = {"source", "outcome", "status", "state", "le", "method", "route"}


def read(text: str) -> list[Metric]:
    """Every metric of a text, as Prometheus reads it."""
    return list(text_string_to_metric_families(text))


def families(client: FlaskClient, path: str = "/metrics") -> dict[str, Metric]:
    """Every metric by its name, as Prometheus reads the text."""
    return {family.name: family for family in read(client.get(path).get_data(as_text=True))}


def values(family: Metric) -> dict[tuple[str, ...], float]:
    """The values of a metric by those of its labels."""
    return {tuple(sample.labels[name] for name in ORDER if name in sample.labels): sample.value for sample in family.samples}


def test_the_etl_is_told_as_the_contract_names_it(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn, status="partial", took=5, records_inserted=3, records_updated=2, records_unchanged=1, records_quarantined=4)
    add_run(conn, status="failed", took=100)
    add_run(conn, status="running", records_inserted=10)
    add_quarantined(conn, run_id)
    add_drift(conn, run_id, "field")
    found = families(client)
    processed = values(found["etl_records_processed"])
    assert {outcome: processed["csv", outcome] for outcome in ("inserted", "updated", "unchanged", "quarantined")} == {
        "inserted": 13,
        "updated": 2,
        "unchanged": 1,
        "quarantined": 4,
    }
    runs = values(found["etl_runs"])
    assert (runs["csv", "partial"], runs["csv", "failed"], runs["rss", "success"]) == (1, 1, 0)
    assert values(found["etl_quarantined_records"])["csv",] == values(found["etl_schema_drift_open"])["csv",] == 1
    ended = conn.execute("select extract(epoch from finished_at)::float8 as at from etl_runs where id = %s", [run_id]).fetchone()
    assert ended
    assert values(found["etl_last_success_timestamp_seconds"]) == {("csv",): ended["at"]}
    samples = [sample for sample in found["etl_run_duration_seconds"].samples if sample.labels["source"] == "csv"]
    buckets = {sample.labels["le"]: sample.value for sample in samples if sample.name.endswith("_bucket")}
    assert (buckets["2.0"], buckets["5.0"], buckets["60.0"], buckets["120.0"], buckets["+Inf"]) == (0, 1, 1, 2, 2)
    assert {sample.name.rpartition("_")[2]: sample.value for sample in samples if "le" not in sample.labels} == {"count": 2, "sum": 105}


def test_requests_are_counted_by_route_never_by_path_or_made_up_method(client: FlaskClient) -> None:
    for number in range(20):
        client.get(f"/runs/{number}")
        client.get(f"/nothing/{number}")
        client.open("/runs", method=f"METHOD{number}")
    samples = families(client)["flask_http_request_duration_seconds"].samples
    seen = {(sample.labels["method"], sample.labels["route"], sample.labels["status"]) for sample in samples}
    assert seen == {("GET", "/runs/<int:run_id>", "404"), ("GET", "unknown", "404"), ("OTHER", "unknown", "405")}


@pytest.mark.parametrize("path", ["/metrics", "/observability/metrics"])
def test_both_formats_keep_the_rules_of_prometheus(client: FlaskClient, conn: Connection, path: str) -> None:
    add_run(conn)
    client.get("/runs")
    answer = client.get(path, headers=OPENMETRICS)
    assert answer.mimetype == "application/openmetrics-text"
    assert list(openmetrics.text_string_to_metric_families(answer.get_data(as_text=True)))  # type: ignore[no-untyped-call]
    assert "Accept" in answer.headers["Vary"]
    text = client.get(path).get_data(as_text=True)
    for family in read(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"# HELP {name} " in text
        assert f"# TYPE {name} {family.type}" in text
        assert family.documentation
        assert {sample.name.endswith("_total") for sample in family.samples} <= {family.type == "counter"}
        assert not ABBREVIATED.search(family.name)
        assert {label for sample in family.samples for label in sample.labels} <= LABELS


def test_counters_never_fall_while_a_run_ends(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn, status="running", records_inserted=10)
    before = values(families(client)["etl_records_processed"])
    conn.execute("update etl_runs set status = 'success', finished_at = clock_timestamp() where id = %s", [run_id])
    assert values(families(client)["etl_records_processed"]) == before


def test_json_has_the_same_metrics_and_the_budgets_of_calls(client: FlaskClient, conn: Connection) -> None:
    add_run(conn)
    conn.execute(
        """insert into etl_rate_limits (source, calls, calls_per_period, period_seconds)
        values ('coingecko', array[clock_timestamp() - interval '90 s', clock_timestamp() - interval '5 s'], 30, 60)"""
    )
    told: dict[str, Any] = client.get("/observability/metrics/json").get_json()
    assert told["rate_limiting"] == {"coingecko": {"calls_per_period": 30, "period_seconds": 60, "current_calls": 1}}
    assert set(told["metrics"]) >= {"etl_runs", "etl_records_processed", "etl_run_duration_seconds", "kasparro_database_up"}
    assert told["database_connected"] is True
