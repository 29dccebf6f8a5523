"""`POST /etl/run`."""

from __future__ import annotations

import io
import json
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app

from etl.lease import begin_run
from etl.sources import SOURCES
from shared.db import Connection, connect
from shared.model import SourceName
from web import enqueue, keys
from web.windows import Windows

KEY = "correct horse"
RIGHT = {"X-API-Key": KEY}
QUEUED = "select id, source, status, trigger from etl_runs order by id"


@pytest.fixture(autouse=True)
def _unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client is known from an earlier test."""
    monkeypatch.setattr(keys, "windows", Windows())


@pytest.fixture
def client(app: Any) -> FlaskClient:
    """A client of an app that has a key."""
    found: FlaskClient = app(API_KEY=KEY).test_client()
    return found


def post(client: FlaskClient, body: Any = None, headers: Any = RIGHT, **told: Any) -> TestResponse:
    """Ask for a run."""
    told = told or {"json": {"source": "csv"} if body is None else body}
    return client.post("/etl/run", headers=headers, **told)


def queued(conn: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in conn.execute(QUEUED.encode()).fetchall()]


def test_the_sources_that_may_be_asked_for_are_those_of_the_registry() -> None:
    assert get_args(SourceName) == tuple(SOURCES)


def test_a_run_is_queued_and_can_be_looked_at(client: FlaskClient, conn: Connection) -> None:
    answer = post(client)
    assert (answer.status_code, answer.headers["Location"]) == (202, "/runs/1")
    (run,) = answer.get_json()["runs"]
    assert (run["id"], run["source"], run["status"], run["outcome"]) == (1, "csv", "queued", "queued")
    assert queued(conn) == [(1, "csv", "queued", "api")]
    assert [run["status"] for run in client.get("/runs").get_json()["data"]] == ["queued"]


def test_all_queues_one_run_a_source(client: FlaskClient, conn: Connection) -> None:
    answer = post(client, {"source": "all"})
    assert [run["source"] for run in answer.get_json()["runs"]] == list(SOURCES)
    assert answer.headers["Location"] == f"/runs/{answer.get_json()['runs'][0]['id']}"
    assert [row[1] for row in queued(conn)] == list(SOURCES)


def test_what_is_queued_already_is_joined_and_what_runs_is_not(client: FlaskClient, conn: Connection) -> None:
    begin_run(conn, "csv", "cli")
    assert post(client).get_json()["runs"][0]["outcome"] == "queued"
    again = post(client, {"source": "all"}).get_json()["runs"]
    assert {run["source"]: run["outcome"] for run in again}["csv"] == "joined"
    assert Counter(row[1:3] for row in queued(conn))[("csv", "queued")] == 1


def test_a_queued_run_is_executed_by_the_worker(client: FlaskClient, conn: Connection, etl: Any, tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("id,symbol,name,price\nbitcoin,BTC,Bitcoin,50000.10\n")
    post(client)
    assert etl("worker", "--once", CSV_PATHS="assets.csv").code == 0
    assert queued(conn) == [(1, "csv", "success", "api")]


@pytest.mark.parametrize("given", [KEY, f"Bearer {KEY}", f"bearer {KEY}"])
def test_the_key_may_come_in_either_header(client: FlaskClient, given: str) -> None:
    assert post(client, headers={"X-API-Key" if given == KEY else "Authorization": given}).status_code == 202


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"X-API-Key": ""}, ""),
        ({"X-API-Key": "wrong"}, ""),
        ({"X-API-Key": KEY[:-1]}, ""),
        ({"X-API-Key": KEY + "\xff"}, ""),
        ([("X-API-Key", KEY), ("X-API-Key", KEY)], ""),
        ({"X-API-Key": f"{KEY},{KEY}"}, ""),
        ({"X-API-Key": KEY, "Authorization": f"Bearer {KEY}"}, ""),
        ({"Authorization": KEY}, ""),
        ({"Authorization": "Bearer"}, ""),
        ({"Authorization": f"Basic {KEY}"}, ""),
        ({}, f"?api_key={KEY}"),
        ({}, f"?X-API-Key={KEY}"),
    ],
)
def test_without_the_key_every_request_gets_one_and_the_same_answer(
    client: FlaskClient, conn: Connection, headers: Any, query: str
) -> None:
    for told in ({"json": {"source": "csv"}}, {"json": {"source": "nope"}}, {"data": b"{", "content_type": "text/plain"}):
        answer = client.post(f"/etl/run{query}", headers=headers, **told)
        said = answer.get_json()
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="kasparro-etl"')
        assert said | {"request_id": ""} == {
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": "send the API key in X-API-Key or as Authorization: Bearer",
            "request_id": "",
        }
    assert queued(conn) == []


def test_a_key_outside_ascii_works(app: Any) -> None:
    client = app(API_KEY="schlüssel").test_client()
    assert post(client, headers={"X-API-Key": "schlüssel".encode().decode("latin-1")}).status_code == 202


def test_without_a_key_in_the_settings_the_endpoint_is_off(app: Any, conn: Connection) -> None:
    for headers in ({}, {"X-API-Key": ""}, RIGHT):
        assert post(app().test_client(), headers=headers).status_code == 403
    assert queued(conn) == []


def test_guesses_of_one_client_are_bounded_and_reported_once(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [post(client, headers={"X-API-Key": f"guess {n}"}) for n in range(30)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 20
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert post(client).status_code == 429  # who is blocked learns nothing from the right key either
    assert client.post("/etl/run", json={"source": "csv"}, headers=RIGHT, environ_base={"REMOTE_ADDR": "10.0.0.9"}).status_code == 202
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("guesses blocked") == 1
    assert "guess 1" not in logged.out + logged.err


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"json": {"source": "nope"}}, 400),
        ({"json": {}}, 400),
        ({"json": []}, 400),
        ({"json": "csv"}, 400),
        ({"json": {"source": None}}, 400),
        ({"json": {"source": 1}}, 400),
        ({"json": {"source": ["csv"]}}, 400),
        ({"json": {"source": "csv "}}, 400),
        ({"json": {"source": "csv", "full_refresh": True}}, 400),
        ({"data": b"", "content_type": "application/json"}, 400),
        ({"data": b"null", "content_type": "application/json"}, 400),
        ({"data": b'{"source": "csv"', "content_type": "application/json"}, 400),
        ({"data": b'{"source": "csv", "source": "rss"}', "content_type": "application/json"}, 400),
        ({"data": b'{"source": "csv\xff"}', "content_type": "application/json"}, 400),
        ({"data": '{"source": "csv"}'.encode("utf-16"), "content_type": "application/json"}, 400),
        ({"data": b'\xef\xbb\xbf{"source": "csv"}', "content_type": "application/json"}, 400),
        ({"data": b"[" * 30_000, "content_type": "application/json"}, 400),
        ({"data": b'{"a":' * 10_000, "content_type": "application/json"}, 400),
        ({"data": b'{"source": ' + b"9" * 5000 + b"}", "content_type": "application/json"}, 400),
        ({"data": b'{"source": "\\ud800"}', "content_type": "application/json"}, 400),
        ({"data": b" " * 100_000, "content_type": "application/json"}, 413),
        ({"data": b'{"source": "csv"}', "content_type": "text/plain"}, 415),
        ({"data": b'{"source": "csv"}'}, 415),
        ({"data": {"source": "csv"}}, 415),
    ],
)
def test_a_body_that_is_not_understood_queues_nothing(client: FlaskClient, conn: Connection, told: Any, status: int) -> None:
    answer = post(client, **told)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert status != 400 or answer.get_json()["errors"]
    assert queued(conn) == []


def test_a_body_without_an_end_is_cut_off(client: FlaskClient) -> None:
    environ = EnvironBuilder(path="/etl/run", method="POST", headers=Headers(RIGHT), content_type="application/json").get_environ()
    environ |= {"wsgi.input": io.BytesIO(b" " * 200_000), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert run_wsgi_app(client.application, environ)[1].startswith("413")


def test_a_body_in_another_encoding_is_refused(client: FlaskClient, conn: Connection) -> None:
    assert post(client, headers=RIGHT | {"Content-Encoding": "gzip"}).status_code == 415
    assert queued(conn) == []


def test_a_browser_may_ask_without_the_key_whether_it_may_send_it(app: Any, conn: Connection) -> None:
    client = app(API_KEY=KEY, API_CORS_ORIGINS="https://app.example").test_client()
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    for _ in range(keys.GUESSES + 1):
        preflight = client.options("/etl/run", headers=asked)
        assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example")
        assert "X-API-Key" in preflight.headers["Access-Control-Allow-Headers"]
    assert queued(conn) == []
    assert post(client, headers=RIGHT | {"Origin": "https://app.example"}).status_code == 202


def test_a_parameter_in_the_address_is_refused(client: FlaskClient) -> None:
    answer = client.post("/etl/run?source=csv", headers=RIGHT, json={"source": "csv"})
    assert (answer.status_code, answer.get_json()["errors"][0]["parameter"]) == (400, "source")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_does_not_fit(client: FlaskClient, method: str) -> None:
    answer = client.open("/etl/run", method=method, headers=RIGHT | {"X-HTTP-Method-Override": "POST"})
    assert (answer.status_code, {*answer.headers["Allow"].split(", ")}) == (405, {"OPTIONS", "POST"})


@pytest.mark.parametrize("path", ["/etl/run/", "/etl//run", "/ETL/run"])
def test_another_spelling_of_the_path_is_not_found(client: FlaskClient, conn: Connection, path: str) -> None:
    assert client.post(path, headers=RIGHT, json={"source": "csv"}).status_code == 404
    assert queued(conn) == []


def test_a_request_repeated_under_its_key_is_answered_with_the_same_runs(client: FlaskClient, conn: Connection) -> None:
    headers = RIGHT | {"Idempotency-Key": "order-1"}
    first = post(client, {"source": "all"}, headers)
    conn.execute("update etl_runs set status = 'success', started_at = now(), finished_at = now()")
    again = post(client, {"source": "all"}, headers)
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    assert [(run["id"], run["status"], run["outcome"]) for run in again.get_json()["runs"]] == [
        (run["id"], "success", "replayed") for run in first.get_json()["runs"]
    ]
    assert len(queued(conn)) == 4
    assert post(client, {"source": "all"}, RIGHT | {"Idempotency-Key": "order-2"}).get_json()["runs"][0]["outcome"] == "queued"


def test_a_key_used_for_another_request_is_refused(client: FlaskClient, conn: Connection) -> None:
    headers = RIGHT | {"Idempotency-Key": "order-1"}
    post(client, {"source": "csv"}, headers)
    answer = post(client, {"source": "rss"}, headers)
    assert (answer.status_code, answer.get_json()["errors"][0]["parameter"]) == (422, "Idempotency-Key")
    assert len(queued(conn)) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "\x7f", "tab\there"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, conn: Connection, key: str) -> None:
    answer = post(client, headers=RIGHT | {"Idempotency-Key": key})
    assert (answer.status_code, answer.get_json()["errors"][0]["parameter"]) == (400, "Idempotency-Key")
    assert queued(conn) == []


@pytest.mark.parametrize("key", ["x", "x" * 255, "'; drop table etl_runs --", "!~"])
def test_any_visible_ascii_is_a_key(client: FlaskClient, key: str) -> None:
    assert post(client, headers=RIGHT | {"Idempotency-Key": key.replace(" ", "_")}).status_code == 202


def test_a_key_is_forgotten_after_a_day_and_never_stored_as_it_came(client: FlaskClient, conn: Connection) -> None:
    headers = RIGHT | {"Idempotency-Key": "order-1"}
    post(client, headers=headers)
    (stored,) = conn.execute("select *, expires_at - created_at as kept from etl_idempotency_keys").fetchall()
    assert "order-1" not in str(stored)
    assert stored["kept"].total_seconds() == pytest.approx(24 * 3600, abs=1)
    conn.execute("update etl_idempotency_keys set expires_at = now()")
    assert post(client, {"source": "rss"}, headers).status_code == 202
    assert len(conn.execute("select from etl_idempotency_keys").fetchall()) == 1


def test_concurrent_requests_with_shared_keys_lose_and_double_nothing(app: Any, conn: Connection) -> None:
    application = app(API_KEY=KEY)

    def ask(client: int) -> list[tuple[str, int, list[int]]]:
        answers = []
        for number in range(100):
            key = f"key-{(client * 37 + number * 7) % 60}"
            answer = post(application.test_client(), {"source": "csv"}, RIGHT | {"Idempotency-Key": key})
            answers.append((key, answer.status_code, [run["id"] for run in answer.get_json()["runs"]]))
            if number % 10 == client:
                with connect(dsn, "tests") as worker:
                    worker.execute(
                        "update etl_runs set status = 'success', started_at = now(), finished_at = now() where status = 'queued'"
                    )
        return answers

    dsn = application.extensions["kasparro"].reader.dsn
    with ThreadPoolExecutor(8) as pool:
        answers = [answer for found in pool.map(ask, range(8)) for answer in found]
    assert Counter(status for _, status, _ in answers) == {202: 800}
    runs = {key: {tuple(ids) for k, _, ids in answers if k == key} for key in {key for key, _, _ in answers}}
    assert len(runs) == 60
    assert all(len(ids) == 1 for ids in runs.values())
    told = {ids[0] for found in runs.values() for ids in found}
    assert told == {row[0] for row in queued(conn)}
    assert 1 < len(told) <= 60


def test_fifty_at_once_under_one_key_queue_one_run(app: Any, conn: Connection) -> None:
    application, headers = app(API_KEY=KEY), RIGHT | {"Idempotency-Key": "one"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(application.test_client(), headers=headers), range(50)))
    assert Counter(answer.status_code for answer in answers) == {202: 50}
    assert Counter(answer.get_json()["runs"][0]["outcome"] for answer in answers) == {"queued": 1, "replayed": 49}
    assert len(queued(conn)) == 1


def test_a_role_that_may_only_call_the_function_can_queue_and_write_nothing_else(app: Any, conn: Connection, dsn: str) -> None:
    role = f"queuer_{conn.info.dbname}"
    conn.execute(f"create role {role} login".encode())
    conn.execute(f"grant execute on function enqueue_run(text[], bytea, bytea) to {role}".encode())
    narrow = psycopg.conninfo.make_conninfo(dsn, user=role)
    try:
        client = app(API_KEY=KEY, DATABASE_URL=narrow).test_client()
        assert post(client, headers=RIGHT | {"Idempotency-Key": "x"}).status_code == 202
        with connect(narrow, "tests") as other:
            for statement in ("insert into etl_runs (source, trigger, status) values ('a', 'api', 'queued')", "table etl_idempotency_keys"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    other.execute(statement.encode())
        conn.execute(f"revoke execute on function enqueue_run(text[], bytea, bytea) from {role}".encode())
        assert post(client).status_code == 503
    finally:
        conn.execute(f"drop owned by {role}".encode())
        conn.execute(f"drop role {role}".encode())


def test_the_function_cannot_be_led_to_other_tables(conn: Connection) -> None:
    conn.execute("create temp table etl_runs (id bigint, source text, trigger text, status text, requested_at timestamptz)")
    conn.execute("select * from enqueue_run('{csv}', null, null)")
    assert conn.execute("select from pg_temp.etl_runs").fetchall() == []
    assert len(conn.execute("select from public.etl_runs").fetchall()) == 1


def test_a_database_that_is_down_or_not_migrated_is_503(app: Any, empty_dsn: str) -> None:
    for address in ("postgresql://nobody@127.0.0.1:1/none", empty_dsn):
        answer = post(app(API_KEY=KEY, DATABASE_URL=address).test_client())
        assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
        assert int(answer.headers["Retry-After"]) >= 1


def test_a_database_that_accepts_and_says_nothing_is_503_in_time(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueue, "CONNECTING", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none?connect_timeout=60"
        answer = post(app(API_KEY=KEY, DATABASE_URL=address).test_client())
    assert (answer.status_code, int(answer.headers["Retry-After"]) >= 1) == (503, True)


def test_a_replica_is_not_asked_to_queue(app: Any, conn: Connection) -> None:
    conn.execute(f"alter database {conn.info.dbname} set default_transaction_read_only = on".encode())
    assert post(app(API_KEY=KEY).test_client()).status_code == 202  # the transaction says that it writes, whatever the default
    assert queued(conn) == [(1, "csv", "queued", "api")]


def test_the_log_names_what_was_queued_and_no_key(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    post(client, headers=RIGHT | {"Idempotency-Key": "hidden-key"})
    logged = capsys.readouterr()
    assert "runs queued" in logged.out + logged.err
    assert KEY not in logged.out + logged.err
    assert "hidden-key" not in logged.out + logged.err
    assert json.dumps(KEY) not in logged.out + logged.err
