"""`GET /data/{id}/lineage`."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from shared.excerpts import cut_array


def lineage(client: FlaskClient, conn: Connection, source: str, external_id: str) -> dict[str, Any]:
    """The lineage of a record."""
    found = conn.execute("select id from unified_data where source = %s and external_id = %s", [source, external_id]).fetchall()
    answer: dict[str, Any] = client.get(f"/data/{found[0]['id']}/lineage").get_json()["data"]
    return answer


def body_of(conn: Connection, told: dict[str, Any]) -> bytes:
    """The payload that a lineage names."""
    found = conn.execute("select body, sha256 from raw_payloads where id = %s", [told["payload"]["id"]]).fetchall()[0]
    assert found["sha256"].hex() == told["payload"]["sha256"] == hashlib.sha256(found["body"]).hexdigest()
    return bytes(found["body"])


def test_every_record_of_every_source_leads_back_to_its_own_bytes(
    client: FlaskClient, conn: Connection, etl: Any, offline: dict[str, str], filled: None
) -> None:
    assert etl("run", "--source", "coinpaprika,coingecko,rss", **offline).code == 0
    seen = set()
    for row in conn.execute("select id, source, external_id, name, run_id from unified_data").fetchall():
        told = client.get(f"/data/{row['id']}/lineage").get_json()["data"]
        assert told["record"].encode() in body_of(conn, told)
        assert (told["run"]["id"], told["run"]["status"], told["note"]) == (row["run_id"], "success", None)
        if row["source"] in ("coinpaprika", "coingecko"):
            assert json.loads(told["record"])["id"] == row["external_id"]
        else:
            assert row["external_id"] in told["record"]
        assert told["record"].startswith({"csv": row["external_id"], "rss": "<item"}.get(row["source"], "{"))
        seen.add(row["source"])
    assert seen == {"coinpaprika", "coingecko", "csv", "rss"}


def test_bytes_that_are_no_utf8_are_given_in_base64(client: FlaskClient, conn: Connection, etl: Any, tmp_path: Path) -> None:
    line = "one,ONÉ,Oné,1.5\r\n"
    (tmp_path / "wide.csv").write_bytes(f"\ufeffid,symbol,name,price\r\n{line}two,TWO,Two,2\r\n".encode("utf-16-le"))
    assert etl("run", "--source", "csv", CSV_PATHS=str(tmp_path / "wide.csv")).code == 0
    told = lineage(client, conn, "csv", "one")
    assert told["record_encoding"] == "base64"
    assert base64.b64decode(told["record"]) == line.encode("utf-16-le")


def test_a_record_names_the_run_that_last_wrote_it(client: FlaskClient, conn: Connection, etl: Any, tmp_path: Path) -> None:
    for price in (1, 2):
        (tmp_path / "a.csv").write_text(f"id,symbol,name,price\nx,X,Ex,{price}\ny,Y,Why,5\n")
        assert etl("run", "--source", "csv", "--full-refresh", CSV_PATHS=str(tmp_path / "a.csv")).code == 0
    assert (lineage(client, conn, "csv", "x")["run"]["id"], lineage(client, conn, "csv", "y")["run"]["id"]) == (2, 1)
    assert lineage(client, conn, "csv", "x")["record"] == "x,X,Ex,2\n"
    assert lineage(client, conn, "csv", "y")["record"] == "y,Y,Why,5\n"


def test_a_payload_whose_bytes_were_deleted_is_named_without_them(client: FlaskClient, conn: Connection, filled: None) -> None:
    before = lineage(client, conn, "csv", "bitcoin")
    conn.execute(
        "insert into pruned_payloads (id, source_type, source, run_id, fetched_at, url, sha256)"
        " select id, source_type, source, run_id, fetched_at, url, sha256 from raw_payloads"
    )
    conn.execute("delete from raw_payloads")
    told = lineage(client, conn, "csv", "bitcoin")
    assert (told["record"], told["note"]) == (None, "the payload was deleted for its age")
    assert {**told["payload"], "pruned_at": None} == before["payload"]
    assert told["payload"]["pruned_at"]
    conn.execute("delete from pruned_payloads")
    assert lineage(client, conn, "csv", "bitcoin")["note"] == "the payload is not kept"


def test_a_feed_whose_elements_cannot_be_told_apart_gives_no_wrong_record(
    client: FlaskClient, conn: Connection, etl: Any, offline: dict[str, str], upstream: Any, payload: Any
) -> None:
    assert etl("run", "--source", "rss", **offline).code == 0
    conn.execute("update raw_payloads set body = body || convert_to('<item>', 'UTF8')")
    told = client.get("/data/1/lineage").get_json()["data"]
    assert told["record"] is None
    assert "cannot be told" in told["note"]


@pytest.mark.parametrize("body", [b'{"prices": [1, 2]}', b"", b"null", b"[", b"[1"])
def test_only_an_array_is_cut(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        cut_array(body, [1])


def test_an_unknown_record_has_no_lineage(client: FlaskClient) -> None:
    for number in ("1", "9223372036854775808", "x"):
        assert client.get(f"/data/{number}/lineage").status_code == 404
