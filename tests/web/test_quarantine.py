"""`GET /quarantine`."""

from __future__ import annotations

from flask.testing import FlaskClient

from shared.db import Connection
from tests.web.world import add_quarantined, add_run


def test_open_entries_are_listed_newest_first_with_reasons_and_the_record(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn)
    add_quarantined(conn, run_id, record=b"solved", resolved=True)
    add_quarantined(conn, run_id, record=b'{"price": "\xff\x00<script>"}')
    data = client.get("/quarantine").get_json()["data"]
    assert [entry["record"] for entry in data] == ['{"price": "\ufffd\x00<script>"}']
    assert data[0]["errors"] == [{"field": "price", "reason": "is no number"}]
    assert (data[0]["record_bytes"], data[0]["resolved_at"], data[0]["run_id"]) == (23, None, run_id)
    assert len(client.get("/quarantine?all=true").get_json()["data"]) == 2


def test_pages_keep_their_filters(client: FlaskClient, conn: Connection) -> None:
    first, second = add_run(conn), add_run(conn, source="rss")
    for number in range(4):
        add_quarantined(conn, first, record=b"%d" % number, resolved=number == 0)
        add_quarantined(conn, second, source="rss", record=b"%d" % number)
    page = client.get(f"/quarantine?source=csv&run_id={first}&all=true&limit=3").get_json()
    rest = client.get(page["next"]).get_json()
    assert [entry["record"] for entry in page["data"] + rest["data"]] == ["3", "2", "1", "0"]
    assert rest["next"] is None


def test_a_large_record_is_shown_by_its_beginning(client: FlaskClient, conn: Connection) -> None:
    add_quarantined(conn, add_run(conn), record=b"x" * 100_000)
    entry = client.get("/quarantine").get_json()["data"][0]
    assert (len(entry["record"]), entry["record_bytes"]) == (2000, 100_000)
