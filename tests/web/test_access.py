"""What surrounds every request: its id, its line in the log, its headers, and CORS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from web.access import VALID_ID

KEY = "correct-horse-battery"
HOSTILE = [
    f"/runs?api_key={KEY}",
    f"/{KEY}",
    "/a%0Alevel=error%20msg=hacked",
    "/%22,%22level%22:%22error",
    "/%E2%80%A8%1B[2J",
    "/%FF%FE",
    "/" + "a" * 3000,
]


def test_whatever_is_sent_one_request_is_one_json_line_without_secrets(serve: Callable[..., Any], dsn: str) -> None:
    served = serve(API_DATABASE_URL=dsn, API_KEY=KEY)
    before = len(served.lines())
    where = urlsplit(served.url)
    for path in HOSTILE:
        connection = HTTPConnection(where.netloc, timeout=20)
        connection.putrequest("GET", path, skip_host=True)
        for name, value in {"Host": "evil.example:99", "X-Request-ID": 'a"b\\', "X-API-Key": KEY}.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status in (400, 404)
        connection.close()
    lines = [line for line in served.lines()[before:] if line["event"] != "server reported"]  # a worker may report its start late
    assert [line["event"] for line in lines] == ["request served"] * len(HOSTILE)
    assert {(line["level"], line["method"]) for line in lines} == {("info", "GET")}
    assert all(isinstance(line["latency_ms"], float) and VALID_ID.fullmatch(line["request_id"]) for line in lines)
    assert KEY not in served.log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_X", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ('"', False), ("", False)]
)
def test_a_valid_request_id_is_kept_and_any_other_replaced(client: FlaskClient, given: str, kept: bool) -> None:
    answer = client.get("/health/live", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) is kept
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "path", ["/runs", "/data", "/health", "/nothing", "/metrics", "/docs/docs.js", "/static/pages.css", "/runs?x=1", "/etl/run", "/"]
)
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["Cache-Control"]
    assert headers["X-Request-ID"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert [name for name, count in Counter(name.lower() for name, _ in headers).items() if count > 1] == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8000"])
def test_no_origin_is_let_in_unless_configured(client: FlaskClient, origin: str) -> None:
    preflight = client.options("/etl/run", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert not [name for name, _ in preflight.headers if name.startswith("Access-Control")]
    assert not [name for name, _ in client.get("/runs", headers={"Origin": origin}).headers if name.startswith("Access-Control")]


def test_a_configured_origin_is_let_in_and_no_other(app: Callable[..., Flask]) -> None:
    client = app(API_CORS_ORIGINS="https://app.example,http://localhost:3000").test_client()
    answer = client.get("/runs", headers={"Origin": "https://app.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Origin" in answer.headers["Vary"]
    preflight = client.options("/runs", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "GET"})
    assert "GET" in preflight.headers["Access-Control-Allow-Methods"]
    other = client.get("/runs", headers={"Origin": "https://app.example.evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers
    assert "Access-Control-Allow-Credentials" not in answer.headers
