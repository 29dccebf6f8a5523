"""Errors: one form for every refusal, and nothing in it that is none of the client's business."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import BaseModel

MEMBERS = {"type", "title", "status", "detail", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/runs/", 404),
        ("GET", "/runs//1", 404),
        ("GET", "/%F0%9F%92%A9", 404),
        ("POST", "/runs", 405),
        ("TRACE", "/runs", 405),
        ("PUT", "/stats", 405),
        ("DELETE", "/runs/1", 405),
        ("GET", f"/runs?source={'a' * 9000}", 414),
        ("GET", "/stats?x=1", 400),
        ("GET", "/runs?limit=1&limit=2", 400),
    ],
)
def test_every_refusal_has_one_form(client: FlaskClient, method: str, path: str, status: int) -> None:
    refused = client.open(path, method=method)
    told = refused.get_json()
    assert (refused.status_code, refused.mimetype) == (status, "application/problem+json")
    assert set(told) >= MEMBERS
    assert (told["status"], told["request_id"]) == (status, refused.headers["X-Request-ID"])
    assert refused.headers["Cache-Control"] == "no-store"
    assert ("Allow" in refused.headers) == (status == 405)


def test_head_and_options_are_answered(client: FlaskClient) -> None:
    head = client.head("/runs")
    assert (head.status_code, head.data, int(head.headers["Content-Length"]) > 0) == (200, b"", True)
    assert set(client.options("/runs").headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


HEADED: tuple[str, ...] = (
    "/",
    "/data",
    "/data/1",
    "/data/1/lineage",
    "/data/export",
    "/assets/csv/bitcoin/history",
    "/health",
    "/health/live",
    "/stats",
    "/runs",
)
HEADED += ("/runs/1", "/compare-runs", "/quarantine", "/drift", "/docs", "/docs/docs.js", "/openapi.json", "/static/pages.css", "/nothing")


def test_head_is_get_without_the_body(client: FlaskClient, filled: None) -> None:
    for path in (*HEADED, "/health/ready", "/etl/run", "/runs/99", "/data?limit=0"):
        got, head = client.get(path), client.head(path)
        assert (path, head.status_code, head.data, head.mimetype) == (path, got.status_code, b"", got.mimetype)
        assert set(head.headers.keys()) == set(got.headers.keys()), path
        assert head.headers.get("Content-Length") != "0", path


def test_an_id_in_a_path_is_written_in_one_way(client: FlaskClient, filled: None) -> None:
    for path in ("/runs/{}", "/data/{}", "/data/{}/lineage"):
        assert client.get(path.format(1)).status_code == 200
        for number in ("\u0661", "\uff11", "01", "-0", "+1", "1.0", "1_0", "1e0", "9" * 20, "9" * 5000):
            assert client.get(path.format(number)).status_code == 404, (path, number)


def test_an_empty_value_is_refused_where_leaving_it_out_means_something(client: FlaskClient) -> None:
    for query in ("runs?limit=", "runs?limit", "data?limit=", "drift?all=", "data/export?format="):
        refused = client.get(f"/{query}")
        assert (query, refused.status_code, len(refused.get_json()["errors"])) == (query, 400, 1)
    assert client.get("/runs?source=&status=&before=").status_code == 200


WORDS = re.compile(
    r"pydantic|psycopg|werkzeug|Error\b|Exception|<class|object at 0x|Traceback|\bNone\b|\bselect\b|_runs\b|Literal|\bint\b|\bstr\b"
)
BAD: tuple[str, ...] = (
    "limit=x",
    "limit=1e3",
    "limit=0",
    "limit=9999",
    "offset=-1",
    "sort=x",
    "fields=x",
    "q=%25",
    "updated_since=x",
    "min_price=NaN",
    "status=x",
)
BAD += (
    "kind=x",
    "source_type=x",
    "cursor=x",
    "symbol=%00",
    f"q={'a' * 501}",
    "offset=1&cursor=x",
    f"limit={'9' * 30}",
    "updated_since=10000-01-01",
)


def test_no_refusal_names_what_is_inside(client: FlaskClient) -> None:
    for query in BAD:
        refused = client.get(f"/data?{query}")
        assert (query, refused.status_code) == (query, 400)
        assert WORDS.findall(refused.get_data(as_text=True)) == [], query


def test_a_bug_shows_nothing_but_the_request_id(app: Callable[..., Flask], capfd: pytest.CaptureFixture[str]) -> None:
    made = app()

    @made.get("/bug")
    def bug() -> str:
        raise RuntimeError("select secret from /etc/passwd")

    crashed = made.test_client().get("/bug")
    assert crashed.status_code == 500
    assert not {"secret", "select", "RuntimeError", "Traceback"} & set(crashed.get_data(as_text=True).replace("/", " ").split())
    told = capfd.readouterr()
    assert "select secret" in told.out + told.err


def test_an_answer_that_does_not_fit_its_own_model_is_our_bug_not_the_clients(app: Callable[..., Flask]) -> None:
    class OddAnswer(BaseModel):
        number: int

    made = app()

    @made.get("/odd")
    def odd() -> str:
        return OddAnswer.model_validate({"number": "x"}).model_dump_json()

    assert made.test_client().get("/odd").status_code == 500


def test_a_body_that_is_too_large_is_a_413(app: Callable[..., Flask]) -> None:
    client = app(API_KEY="correct horse").test_client()
    headers = {"X-API-Key": "correct horse"}
    body = b'{"source": "' + b"x" * 100_000 + b'"}'
    sent = client.post("/etl/run", data=body, content_type="application/json", headers=headers)
    assert (sent.status_code, sent.mimetype) == (413, "application/problem+json")


def test_another_content_type_is_a_415(app: Callable[..., Flask]) -> None:
    client = app(API_KEY="correct horse").test_client()
    sent = client.post("/etl/run", data=b"source=all", content_type="text/plain", headers={"X-API-Key": "correct horse"})
    assert (sent.status_code, sent.mimetype) == (415, "application/problem+json")
