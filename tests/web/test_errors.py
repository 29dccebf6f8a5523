"""Errors: one form for every refusal, and nothing in it that is none of the client's business."""

from __future__ import annotations

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
