"""`GET /drift`."""

from __future__ import annotations

from flask.testing import FlaskClient

from shared.db import Connection
from tests.web.world import add_drift, add_run


def test_open_changes_are_listed_and_accepted_ones_on_request(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn)
    accepted, opened = add_drift(conn, run_id, "old"), add_drift(conn, run_id, "new", change="missing")
    conn.execute("update schema_drift set accepted_at = now() where id = %s", [accepted])
    data = client.get("/drift").get_json()["data"]
    assert [(event["id"], event["field"], event["change"], event["confidence"]) for event in data] == [(opened, "new", "missing", 0.5)]
    assert len(client.get("/drift?all=true").get_json()["data"]) == 2


def test_pages_keep_their_filters(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn)
    for number in range(4):
        add_drift(conn, run_id, f"f{number}", change="retyped")
        add_drift(conn, run_id, f"g{number}", source="rss")
    page = client.get("/drift?source=csv&change=retyped&limit=3").get_json()
    rest = client.get(page["next"]).get_json()
    assert [event["field"] for event in page["data"] + rest["data"]] == ["f3", "f2", "f1", "f0"]
    assert rest["next"] is None


def test_a_change_nobody_knows_is_refused(client: FlaskClient) -> None:
    assert client.get("/drift?change=odd").status_code == 400
