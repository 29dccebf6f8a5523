"""`GET /runs` and `GET /runs/{id}`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from etl.errors import FetchError, Refused, kind_of, one_of_many
from shared.db import Connection
from tests.web.conftest import SAMPLE
from tests.web.world import add_drift, add_quarantined, add_run


def test_runs_are_listed_newest_first_and_paged(client: FlaskClient, conn: Connection) -> None:
    for _ in range(5):
        add_run(conn)
    pages, address = [], "/runs?limit=2"
    while address:
        page = client.get(address).get_json()
        pages.append([run["id"] for run in page["data"]])
        address = page["next"]
    assert pages == [[5, 4], [3, 2], [1]]


def test_filters_hold_over_pages_and_survive_odd_names(client: FlaskClient, conn: Connection) -> None:
    for number in range(6):
        add_run(conn, source="a&b=c" if number % 2 else "csv", status="failed" if number > 2 else "success")
    first = client.get("/runs?source=a%26b%3Dc&status=failed&limit=1").get_json()
    second = client.get(first["next"]).get_json()
    assert [run["id"] for run in first["data"] + second["data"]] == [6, 4]
    assert second["next"] is None


AT_FAULT = {
    "limit=0": "limit",
    "limit=1e3": "limit",
    "status=odd": "status",
    "before=x": "before",
    "colour=red": "colour",
    "source=%00": "source",
}


@pytest.mark.parametrize(("query", "name"), AT_FAULT.items())
def test_a_parameter_at_fault_is_named(client: FlaskClient, query: str, name: str) -> None:
    refused = client.get(f"/runs?{query}")
    assert refused.status_code == 400
    assert [error["parameter"] for error in refused.get_json()["errors"]] == [name]


def test_one_run_by_the_pipeline_has_its_batches(client: FlaskClient, etl: Any) -> None:
    etl("run", "--source", "csv", "--batch-size", "5", CSV_PATHS=SAMPLE)
    run = client.get("/runs/1?limit=2").get_json()
    assert (run["id"], run["status"], run["batches"]["total"]) == (1, "success", 5)
    seen, address = [], "/runs/1?limit=2"
    while address:
        page = client.get(address).get_json()["batches"]
        seen += page["data"]
        address = page["next"]
    assert [batch["seq"] for batch in seen] == [1, 2, 3, 4, 5]
    assert sum(batch["inserted"] for batch in seen) == run["records_inserted"] == 25


def test_one_run_shows_its_drift_quarantine_and_error(client: FlaskClient, conn: Connection) -> None:
    other, run_id = add_run(conn), add_run(conn, status="failed", error_type="SourceError", error_message="upstream said no")
    add_drift(conn, other, "theirs")
    add_drift(conn, run_id, "ours")
    for number in range(25):
        add_quarantined(conn, run_id, record=b"\xff%d" % number, resolved=number == 0)
    run = client.get(f"/runs/{run_id}").get_json()
    assert [event["field"] for event in run["drift"]] == ["ours"]
    assert (run["quarantine"]["total"], len(run["quarantine"]["data"])) == (25, 20)
    assert len(client.get(run["quarantine"]["next"]).get_json()["data"]) == 25
    assert run["errors"] == [{"type": "SourceError", "message": "upstream said no"}]


@pytest.mark.parametrize("run_id", ["1", "0", "9223372036854775807", "9223372036854775808", "9" * 100])
def test_an_unknown_run_is_a_404_that_says_where_runs_are(client: FlaskClient, run_id: str) -> None:
    refused = client.get(f"/runs/{run_id}")
    assert (refused.status_code, "GET /runs" in refused.get_json()["detail"]) == (404, True)


@pytest.mark.parametrize("run_id", ["-1", "1.0", "x", "1/", "%31x"])
def test_what_is_no_id_is_a_404(client: FlaskClient, run_id: str) -> None:
    assert client.get(f"/runs/{run_id}").status_code == 404


def test_a_run_that_failed_in_several_files_says_what_went_wrong_with_each(client: FlaskClient, etl: Any, tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    assert etl("run", "--source", "csv", CSV_PATHS="*.csv").code == 3
    (run,) = client.get("/runs").get_json()["data"]
    assert (run["error_type"], run["error_message"].count(".csv")) == ("Unrecognised", 2)


def test_several_failures_of_different_kinds_share_the_general_word() -> None:
    kinds = [FetchError("one"), FetchError("two"), Refused("three")]
    folded = [one_of_many("feeds", 3, [(f"feed {number}", kind) for number, kind in enumerate(some)]) for some in (kinds[:2], kinds)]
    assert [kind_of(error) for error in folded] == ["FetchError", "SourceError"]
    assert kind_of(ValueError()) == "ValueError"
