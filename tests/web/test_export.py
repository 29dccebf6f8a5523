"""`GET /data/export`."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from shared.errors import DatabaseError
from web import export as route
from web import queries
from web.connection import Overdue
from web.db import open_reader
from web.queries import export
from web.statements import COLUMNS, Selection

MANY = """
insert into unified_data (source, source_type, external_id, kind, name, category, price_usd, raw_id, raw_position, run_id)
select 'many', 'api', 'r' || n, 'asset', repeat('long ', 50) || n, 'c', n, 1, n, 1 from generate_series(1, %s) n
"""
LOST = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'kasparro-api' and datname = current_database()"


def test_ndjson_is_every_record_as_the_pages_show_it(client: FlaskClient, conn: Connection, filled: None) -> None:
    conn.execute(
        "update unified_data set name = E'back\\\\slash \"quote\" \\u0001\\u0002 line\\nend, é', tags = array['a\"b', 'c\\d'] where id = 3"
    )
    lines = client.get("/data/export?format=ndjson").text.splitlines()
    assert (
        sorted((json.loads(line) for line in lines), key=lambda record: record["id"]) == client.get("/data?limit=1000").get_json()["data"]
    )


def test_csv_is_every_record_under_a_header_digit_for_digit(client: FlaskClient, conn: Connection, filled: None) -> None:
    conn.execute("update unified_data set price_usd = 1.500000000000000000000000000001, percent_change_24h = -3.40 where id = 3")
    conn.execute("update unified_data set tags = array['x', 'y'] where id = 3")
    answer = client.get("/data/export")
    found = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    data = {str(record["id"]): record for record in client.get("/data?limit=1000").get_json()["data"]}
    assert answer.mimetype == "text/csv"
    assert tuple(found[0]) == COLUMNS
    assert {row["id"] for row in found} == data.keys()
    third = next(row for row in found if row["id"] == "3")
    assert (third["price_usd"], third["percent_change_24h"]) == ("1.500000000000000000000000000001", "-3.40")
    assert json.loads(third["tags"]) == ["x", "y"]
    assert all(row["updated_at"] == data[row["id"]]["updated_at"] and row["name"] == data[row["id"]]["name"] for row in found)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_begins_as_a_formula(client: FlaskClient, conn: Connection, filled: None, start: str) -> None:
    evil = f'{start}HYPERLINK("http://x.example","y")'
    conn.execute(
        "update unified_data set name = %(evil)s, category = %(evil)s, symbol = %(evil)s, url = %(evil)s where id = 1", {"evil": evil}
    )
    conn.execute("update unified_data set external_id = %(evil)s, asset_id = %(evil)s, tags = array[%(evil)s] where id = 1", {"evil": evil})
    rows = list(csv.reader(io.StringIO(client.get("/data/export").text, newline="")))
    cells = [cell for row in rows for cell in row if "HYPERLINK" in cell]
    assert len(cells) == 7
    assert [cell for cell in cells if cell != "'" + evil] == [json.dumps([evil], ensure_ascii=False)]


def test_the_filters_and_the_fields_are_those_of_the_pages(client: FlaskClient, filled: None) -> None:
    assert client.get("/data/export?symbol=btc&fields=symbol,name").text == "symbol,name\nBTC,Bitcoin\n"
    assert client.get("/data/export?source=nobody&fields=id").text == "id\n"
    assert client.get("/data/export?source=nobody&format=ndjson").text == ""
    assert client.get("/data/export?format=xml").status_code == 400
    assert client.get("/data/export?sort=id").status_code == 400
    assert client.get("/data/export?q=%25").status_code == 400


def test_head_says_what_get_says_and_exports_nothing(client: FlaskClient, filled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    got = client.get("/data/export?format=ndjson")
    monkeypatch.setattr(route, "export", None)
    answer = client.head("/data/export?format=ndjson")
    assert (answer.status_code, answer.data) == (200, b"")
    assert "Content-Length" not in answer.headers
    assert set(answer.headers.keys()) == set(got.headers.keys())
    assert client.head("/data/export?format=xml").status_code == 400


def test_places_are_few_and_come_back_when_a_client_goes_away(client: FlaskClient, conn: Connection) -> None:
    conn.execute(MANY, [20_000])
    for _ in range(3):
        going = [client.get("/data/export", buffered=False) for _ in range(route.MOST)]
        refused = client.get("/data/export")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
        for answer in going:
            answer.close()
    assert client.get("/data/export").text.count("\n") == 20_001


def test_a_connection_ends_with_its_export(client: FlaskClient, conn: Connection) -> None:
    conn.execute(MANY, [20_000])
    client.get("/data/export", buffered=False).close()
    copying = b"select count(*) as n from pg_stat_activity where datname = current_database() and ltrim(query) like '-- Every record%'"
    for _ in range(100):
        if conn.execute(copying).fetchall()[0]["n"] == 0:
            return
        conn.execute("select pg_sleep(0.05)")
    raise AssertionError("the export's connection is still there")


def test_a_database_lost_in_the_middle_is_an_error_and_no_end(dsn: str, conn: Connection) -> None:
    conn.execute(MANY, [200_000])
    stream = export(open_reader(dsn), Selection(("many",), {}), COLUMNS, "csv")
    assert next(stream)
    conn.execute(LOST)
    with pytest.raises(DatabaseError):
        list(stream)


@contextmanager
def frozen(conn: Connection) -> Iterator[None]:
    """Stop the backend of the only export for the length of a block."""
    (backend,) = conn.execute(
        "select pid from pg_stat_activity"
        " where datname = current_database() and application_name = 'kasparro-api' and backend_type = 'client backend'"
    ).fetchall()
    os.kill(backend["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(backend["pid"], signal.SIGCONT)


def test_a_server_that_says_nothing_in_the_middle_is_an_error(dsn: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "SILENCE", 1.0)
    conn.execute(MANY.replace("50", "4000"), [2000])
    stream = export(open_reader(dsn), Selection(("many",), {}), COLUMNS, "csv")
    assert next(stream)
    with frozen(conn), pytest.raises(DatabaseError) as caught:
        list(stream)
    assert isinstance(caught.value.__cause__, Overdue)


def test_a_server_that_says_nothing_is_left_when_the_client_is_gone(dsn: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "LEAVING", 0.2)
    conn.execute(MANY.replace("50", "4000"), [2000])
    stream = route.placed(export(open_reader(dsn), Selection(("many",), {}), COLUMNS, "csv"))
    assert route.places.acquire(blocking=False)
    assert next(stream)
    with frozen(conn):
        stream.close()
    assert [route.places.acquire(blocking=False) for _ in range(route.MOST)] == [True] * route.MOST
    route.places.release(route.MOST)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_file_that_is_cut_ends_in_a_reset(version: str, serve: Callable[..., Any], dsn: str, conn: Connection) -> None:
    conn.execute(MANY.replace("50", "4000"), [2000])
    address = urlsplit(serve(DATABASE_URL=dsn).url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that most of the 40 MB are still to be read
        client.settimeout(60)
        client.connect((address.hostname, address.port))
        client.sendall(f"GET /data/export HTTP/{version}\r\nHost: x\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/")
        conn.execute(LOST)
        with pytest.raises(ConnectionResetError):
            sum(len(piece) for piece in iter(lambda: client.recv(65536), b""))


def test_an_export_cannot_write(dsn: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    conn.execute(MANY, [1])
    conn.execute(
        "create function evil() returns bigint language plpgsql as 'begin delete from unified_data; return 1; end';"
        "alter table unified_data rename to stored; create view unified_data as select *, evil() as id2 from stored where evil() = 1"
    )
    with pytest.raises(DatabaseError) as caught:
        list(export(open_reader(dsn), Selection(("many",), {}), COLUMNS, "csv"))
    assert isinstance(caught.value.__cause__, psycopg.errors.ReadOnlySqlTransaction)


def test_a_first_byte_that_cannot_be_read_is_an_answer_and_not_a_broken_file(app: Any, filled: None) -> None:
    made = app()
    client = made.test_client()
    assert client.get("/data?limit=1").status_code == 200
    made.extensions["kasparro"].reader.dsn = "postgresql://127.0.0.1:1/nothing"
    for _ in range(3):
        assert client.get("/data/export").status_code == 503
