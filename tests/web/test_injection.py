"""What sqlmap and its kin send, in every parameter of every endpoint: refused or taken for text, never for SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from flask.testing import FlaskClient

from shared.db import Connection, connect
from web import keys

ROOT = Path(__file__).parents[2]
KEY = "injection"
SYNTAX_ERROR = "42601"
HARMLESS = {200, 202, 304, 400, 404, 422}

OPENINGS = ("", "'", '"', "')", '")', "1", "1)", "'))", "\\'", "$$")
ATTACKS = (
    " or 1=1--",
    " or '1'='1",
    " or 1=1/*",
    "; drop table etl_runs; --",
    "; select pg_sleep(5)--",
    " union select null--",
    " union all select usename, passwd from pg_shadow--",
    " and 1=cast((select version()) as int)--",
    " and (select 1 from pg_sleep(5))::text='1",
    " || (select current_user) || '",
    " order by 99--",
    " limit 1 offset (select 1)--",
    "; copy (select 1) to program 'id'--",
)
ODD = tuple(json.loads((ROOT / "tests" / "payloads" / "injections.json").read_text()))
CORPUS = (*(opening + attack for attack in ATTACKS for opening in OPENINGS), *ODD)


@pytest.fixture
def client(app: Any, etl: Any, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A client of an app that has records and a key."""
    monkeypatch.setattr(keys, "GUESSES", 1_000_000)
    assert etl("run", "--source", "csv", CSV_PATHS=str(ROOT / "data" / "*.csv")).code == 0
    found: FlaskClient = app(API_KEY=KEY).test_client()
    return found


@pytest.fixture
def server_log(conn: Connection) -> Path:
    """The log of the server, which names the SQLSTATE of every statement that failed in this database from now on."""
    conn.execute(f"alter database {conn.info.dbname} set log_error_verbosity = verbose".encode())
    row = conn.execute("show data_directory").fetchone()
    assert row
    return Path(row["data_directory"]).with_name("server.log")


def requests(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Every parameter of every endpoint: method, path, the parameter, and the other parameters that the endpoint needs."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", [])
            for parameter in parameters:
                needed = {other["name"]: other for other in parameters if other["required"] and other is not parameter}
                yield method, path, parameter, needed


def send(client: FlaskClient, method: str, path: str, values: dict[str, tuple[str, str]]) -> int:
    """Send a request whose parameters are given by name as place and value; return the status."""
    for name, (place, value) in values.items():
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
    query = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, (place, value) in values.items() if place == "query")
    headers = {name: value.encode().decode("latin-1") for name, (place, value) in values.items() if place == "header"}
    body: dict[str, Any] = {"json": {"source": "csv"}} if method == "post" else {}
    return client.open(f"{path}?{query}", method=method, headers=headers | {"X-API-Key": KEY}, **body).status_code


def usual(parameter: dict[str, Any]) -> tuple[str, str]:
    """A value that a parameter takes, with its place."""
    schema = parameter["schema"]
    return parameter["in"], str(schema.get("enum", [schema.get("default", 1)])[0] if "enum" in schema else schema.get("default", 1))


def test_nothing_in_a_parameter_is_taken_for_sql(client: FlaskClient, conn: Connection, server_log: Path) -> None:
    before, tables = server_log.stat().st_size, tables_of(conn)
    document = client.get("/openapi.json").get_json()
    seen: dict[tuple[str, str, str], set[int]] = {}
    for method, path, parameter, needed in requests(document):
        others = {name: usual(other) for name, other in needed.items()}
        for value in CORPUS:
            if parameter["in"] == "header" and set(value) & {"\r", "\n"}:
                continue  # no server hands such a header on
            status = send(client, method, path, others | {parameter["name"]: (parameter["in"], value)})
            seen.setdefault((method, path, parameter["name"]), set()).add(status)
    assert {asked: found - HARMLESS for asked, found in seen.items() if found - HARMLESS} == {}
    assert len(seen) > 10
    assert syntax_errors(server_log, before) == []
    assert tables_of(conn) == tables


def test_nothing_in_the_name_of_a_parameter_is_taken_for_sql(client: FlaskClient, server_log: Path) -> None:
    before = server_log.stat().st_size
    for path, operations in client.get("/openapi.json").get_json()["paths"].items():
        if "get" in operations and "{" not in path:
            assert {client.get(f"{path}?{quote(name, safe='')}=1").status_code for name in CORPUS} == {400}, path
    assert syntax_errors(server_log, before) == []


def test_nothing_in_a_body_is_taken_for_sql(client: FlaskClient, server_log: Path) -> None:
    before = server_log.stat().st_size
    for value in CORPUS:
        for body in ({"source": value}, {"source": "csv", value: 1}, {value: "csv"}):
            assert client.post("/etl/run", json=body, headers={"X-API-Key": KEY}).status_code == 400
    assert syntax_errors(server_log, before) == []


def test_a_syntax_error_would_be_found(dsn: str, server_log: Path) -> None:
    before = server_log.stat().st_size
    with connect(dsn, "tests") as conn, pytest.raises(psycopg.errors.SyntaxError):
        conn.execute("select from from")
    assert len(syntax_errors(server_log, before)) == 1


def syntax_errors(server_log: Path, start: int) -> list[str]:
    """The lines of the log after byte `start` that tell of a syntax error."""
    with server_log.open("rb") as log:
        log.seek(start)
        return [line for line in log.read().decode(errors="replace").splitlines() if SYNTAX_ERROR in line]


def tables_of(conn: Connection) -> list[Any]:
    """Every table with the number of its rows but for those that asking for runs adds to."""
    names = [
        row["relname"] for row in conn.execute("select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
    ]
    counted = [name for name in sorted(names) if name not in ("etl_runs", "etl_idempotency_keys")]
    return [sorted(names), [(name, conn.execute(f"select count(*) as n from {name}".encode()).fetchone()) for name in counted]]
