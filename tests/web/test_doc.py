"""`unified_data.doc`: every record as the JSON that `/data` answers with, kept with the record."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from psycopg import sql

from shared.db import Connection
from web.db import forget, open_reader
from web.queries import export, list_page
from web.statements import COLUMNS, TIMES, Selection, Window

INSERT = """
insert into unified_data (source, source_type, external_id, kind, asset_id, symbol, name, category, price_usd, market_cap_usd,
                          volume_24h_usd, percent_change_24h, rank, url, tags, source_updated_at, first_seen_at, updated_at, status,
                          raw_id, raw_position, run_id)
values (%(source)s, 'csv', %(external_id)s, 'asset', %(text)s, %(text)s, %(name)s, %(name)s, %(number)s, %(number)s,
        %(number)s, %(change)s, %(rank)s, %(text)s, %(tags)s, %(time)s, coalesce(%(time)s, timestamptz '2026-01-02 03:04:05.678901+00'),
        '2026-01-01 00:00+00', 'active', 1, 1, 1)
"""
NOTHING: dict[str, Any] = dict.fromkeys(("text", "number", "change", "rank", "tags", "time")) | {
    "source": "s",
    "external_id": "x",
    "name": "",
}
RECORDS = [
    {},
    {"text": "", "tags": []},
    {
        "text": 'quote " back \\ slash /',
        "name": "line\nend\ttab\r\b\f\x01\x1f\x7f",
        "source": 'so"ur\\ce',
        "external_id": "\u2028 \u00e9 \U0001f680",
    },
    {"tags": ['a"b', "c\\d", "", "e,f", "{g}", "NULL", None]},
    {"number": Decimal("0.000000000000000000000000000001"), "change": Decimal("-100.500"), "rank": 2147483647},
    {"number": Decimal("123456789012345678901234567890.10"), "change": Decimal(0), "rank": 1},
    {"time": "2026-06-30 23:59:59.1+05:30"},
    {"time": "1969-12-31 23:59:59.999999+00"},
    {"time": "12026-01-01 00:00:00+00"},
]
SESSIONS = ["", "set timezone = 'America/New_York'; set datestyle = 'German'; set extra_float_digits = 0; set bytea_output = 'escape'"]


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("record", RECORDS)
def test_it_says_what_the_columns_say_whoever_wrote_them(conn: Connection, record: dict[str, Any], session: str) -> None:
    conn.execute(session.encode())
    conn.execute(INSERT, NOTHING | record)
    conn.execute("set timezone = 'UTC'; set datestyle = 'ISO'")
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("select doc, row_to_json(c)::text as made from unified_data u cross join lateral (select {}) c").format(columns)
    row = conn.execute(statement).fetchone()
    assert row
    kept, made = (json.loads(row[name], parse_float=Decimal) for name in ("doc", "made"))
    assert list(kept) == list(COLUMNS)
    for name in TIMES:
        told = made.pop(name)
        assert kept.pop(name) == (told and told.replace("+00:00", "Z"))
    assert kept == made
    assert "\n" not in row["doc"]


def test_it_follows_every_change_and_nobody_can_write_it(conn: Connection) -> None:
    conn.execute(INSERT, NOTHING)
    conn.execute("update unified_data set price_usd = 1.50, status = 'inactive'")
    row = conn.execute("select doc from unified_data").fetchone()
    assert row
    assert '"price_usd":1.50,' in row["doc"]
    assert row["doc"].endswith('"status":"inactive"}')
    with pytest.raises(psycopg.errors.GeneratedAlways):
        conn.execute("update unified_data set doc = '{}'")


def test_pages_records_and_exports_are_the_same_whether_kept_or_made(client: FlaskClient, conn: Connection, filled: None) -> None:
    conn.execute(
        "update unified_data set source_updated_at = timestamptz '2026-01-02 03:04:05.5+00' + id * interval '1 minute' where id > 2"
    )
    backwards = ",".join(reversed(COLUMNS))
    kept = client.get("/data?limit=1000").get_json()["data"]
    assert len(kept) > 20
    assert client.get(f"/data?limit=1000&fields={backwards}").get_json()["data"] == kept
    assert client.get(f"/data?limit=1000&fields={backwards}&offset=7").get_json()["data"] == kept[7:]
    assert client.get("/data?limit=1000&offset=7").get_json()["data"] == kept[7:]
    assert client.get(f"/data/{kept[5]['id']}").get_json()["data"] == kept[5]
    lines = client.get(f"/data/export?format=ndjson&fields={backwards}").text.splitlines()
    assert sorted((json.loads(line) for line in lines), key=lambda record: record["id"]) == kept
    assert datetime.fromisoformat(kept[5]["source_updated_at"]).utcoffset() is not None


def test_a_page_beyond_the_last_record_is_empty_and_still_counted(client: FlaskClient, filled: None) -> None:
    for address in ("/data?offset=100000", "/data?offset=100000&min_price=0", "/data?offset=100000&min_price=0&fields=id"):
        page = client.get(address).get_json()
        assert page["data"] == []
        assert page["paging"]["total"] > 0
        assert page["paging"]["next"] is None


def test_it_goes_out_as_utf_8_whatever_the_driver_is_told(dsn: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    conn.execute(INSERT, NOTHING | {"name": "\u00e9"})
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    reader, selection = open_reader(f"{dsn}&client_encoding=latin1"), Selection(("s",), {})
    assert '"name":"\u00e9"' in list_page(reader, selection, Window("id", False, 1), COLUMNS).body.decode()
    assert '"name":"\u00e9"' in b"".join(export(reader, selection, COLUMNS, "ndjson")).decode()
    forget(reader)
