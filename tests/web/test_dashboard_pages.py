"""Pages of runs, comparisons, records and searches, as browsers get them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from tests.web.boards import HOSTILE, add_batch, add_record, drifted, failed, fresh, hostile
from tests.web.conftest import SAMPLE
from tests.web.test_dashboard import BROWSER, CURL, count_statements, shown
from tests.web.world import add_quarantined, add_run

PATHS = ["/runs/1", "/compare-runs", "/compare-runs?a=92&b=96"]


def pictures(client: FlaskClient, path: str) -> list[str]:
    """The pictures of a page in words."""
    page = client.get(path, headers=BROWSER).get_data(as_text=True)
    return [unescape(told) for told in re.findall(r'<svg class="chart"[^>]*aria-label="([^"]*)"', page)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*"}, {"Accept": "application/json"}, CURL, {"Accept": "text/html;q=0.5, */*;q=0.8"}])
def test_who_does_not_prefer_html_gets_the_api(client: FlaskClient, conn: Connection, path: str, headers: dict[str, str]) -> None:
    fresh(conn)
    answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize("path", PATHS)
def test_a_browser_gets_a_page_under_the_policy(client: FlaskClient, conn: Connection, path: str) -> None:
    fresh(conn)
    answer = client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert "Accept" in answer.headers["Vary"]
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_a_run_by_the_pipeline_shows_its_batches_and_the_head_of_its_payload(client: FlaskClient, etl: Any) -> None:
    etl("run", "--source", "csv", "--batch-size", "5", CSV_PATHS=SAMPLE)
    page = shown(client, "/runs/1")
    assert "Run 1 of csv: ✓ success" in page
    assert "0 to 4" in page
    assert "symbol" in page
    assert pictures(client, "/runs/1") == ["when each of 5 batches was committed, and how many records it took"]


def test_a_run_shows_why_it_failed_and_the_field_at_fault(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn, "rss", "failed", error_type="FetchError", error_message="upstream said no")
    add_quarantined(conn, run_id, record=b"<item>bad</item>")
    page = client.get(f"/runs/{run_id}", headers=BROWSER).get_data(as_text=True)
    assert "FetchError</strong>: <bdi>upstream said no" in page
    assert '<code class="field"><bdi>price</bdi></code> <bdi>is no number</bdi>' in page
    assert "&lt;item&gt;bad&lt;/item&gt;" in page
    assert "The payload is not kept" in page


def test_a_run_leads_to_the_one_before_and_to_those_it_belongs_to(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, "csv")
    add_run(conn, "csv", "abandoned")
    add_run(conn, "rss")
    add_run(conn, "csv", resumed_from=2)
    page = client.get("/runs/4", headers=BROWSER).get_data(as_text=True)
    assert '<a href="/compare-runs?a=2&amp;b=4">' in page
    assert '<a href="/runs/2">run 2</a>' in page
    assert '<a href="/runs/4">run 4</a>' in client.get("/runs/2", headers=BROWSER).get_data(as_text=True)


def test_drift_of_a_run_comes_with_the_command_to_accept_it(client: FlaskClient, conn: Connection) -> None:
    drifted(conn)
    assert "kasparro-etl drift accept 1" in shown(client, "/runs/97")


@pytest.mark.parametrize("path", ["/runs/9", f"/runs/{2**63}", "/compare-runs?a=8&b=9", "/assets/csv/none", "/assets/csv/%00"])
def test_what_is_not_there_is_a_page_with_the_status(client: FlaskClient, path: str) -> None:
    answer = client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert client.get(path).mimetype == "application/problem+json"


def test_a_comparison_marks_what_is_unusual(client: FlaskClient, conn: Connection) -> None:
    for _ in range(5):
        add_run(conn, "csv", took=5, records_updated=1000)
    add_run(conn, "csv", took=300, records_updated=100)
    page = client.get("/compare-runs?a=5&b=6", headers=BROWSER).get_data(as_text=True)
    assert "2 things unusual" in page
    assert page.count('<tr class="unusual">') == 2
    assert "▲ 5 min" in page
    assert "100 records are fewer than half" in page


def test_without_two_runs_the_last_pairs_are_offered(client: FlaskClient, conn: Connection) -> None:
    fresh(conn)
    page = client.get("/compare-runs", headers=BROWSER).get_data(as_text=True)
    assert page.count('<a href="/compare-runs?a=') == 4
    assert client.get("/compare-runs?a=5", headers=BROWSER).status_code == 400


@pytest.mark.parametrize("external_id", HOSTILE)
def test_a_search_leads_to_a_record_whatever_its_id_is(client: FlaskClient, conn: Connection, external_id: str) -> None:
    hostile(conn)
    page = client.get("/search?q=SYM", headers=BROWSER).get_data(as_text=True)
    (path,) = [path for path in re.findall(r'href="(/assets/[^"]+)"', page) if path.endswith(quote(external_id, safe=""))]
    answer = client.get(unescape(path), headers=BROWSER)
    assert answer.status_code == 200
    assert HOSTILE[external_id][-20:] in unescape(answer.get_data(as_text=True))


def test_a_search_finds_what_data_finds(client: FlaskClient, conn: Connection) -> None:
    add_record(conn, "btc", "Bitcoin", [1.5])
    add_record(conn, "news", "Bitcoin falls", [], source="rss", kind="article")
    add_record(conn, "eth", "Ethereum", [2])
    page = client.get("/search?q=bitcoin", headers=BROWSER).get_data(as_text=True)
    assert re.findall(r'href="(/assets/[^"]+)"', page) == ["/assets/csv/btc", "/assets/rss/news"]
    assert "Nothing has" in shown(client, "/search?q=dogecoin")
    assert "expected text that begins with" in shown(client, "/search?q=%2B%2B")
    assert "Type part of" in shown(client, "/search")


def test_prices_are_drawn_with_first_last_lowest_and_highest(client: FlaskClient, conn: Connection) -> None:
    add_record(conn, "btc", "Bitcoin", [100.5, 250.25, 0.00000012, 180])
    page = client.get("/assets/csv/btc", headers=BROWSER).get_data(as_text=True)
    for told in ("first 100.5", "last 180", "min 0.00000012", "max 250.25"):
        assert f">{told}<" in page
    assert len(re.findall(r"[\d.]+,[\d.]+", re.findall(r'<polyline class="line" points="([^"]*)"', page)[0])) == 4


@pytest.mark.parametrize(("span", "points"), [("1d", 4), ("7d", 28), ("30d", 120), ("1y", 76), ("all", 300)])
def test_a_chart_spans_what_is_asked_for(client: FlaskClient, conn: Connection, span: str, points: int) -> None:
    add_record(conn, "btc", "Bitcoin", [float(number + 1) for number in range(300)])
    page = client.get(f"/assets/csv/btc?range={span}", headers=BROWSER).get_data(as_text=True)
    drawn = re.findall(r'<polyline class="line" points="([^"]*)"', page)[0].split()
    assert abs(len(drawn) - points) <= 1
    assert f'<a href="?range={span}" aria-current="page">' in page
    assert client.get("/assets/csv/btc?range=2d", headers=BROWSER).status_code == 400


def test_a_record_without_prices_in_a_span_says_when_the_last_was(client: FlaskClient, conn: Connection) -> None:
    add_record(conn, "btc", "Bitcoin", [1.0])
    conn.execute("update price_history set observed_at = now() - interval '90 days'")
    assert "the last one was observed 90 d ago" in shown(client, "/assets/csv/btc?range=7d")
    assert "first 1" in shown(client, "/assets/csv/btc?range=all")
    conn.execute("delete from price_history")
    assert "No price was observed" in shown(client, "/assets/csv/btc")


def test_a_record_shows_where_it_came_from(client: FlaskClient, etl: Any) -> None:
    etl("run", "--source", "csv", CSV_PATHS=SAMPLE)
    path = re.findall(r'href="(/assets/[^"]+)"', client.get("/search?q=bitcoin", headers=BROWSER).get_data(as_text=True))[0]
    page = shown(client, path)
    assert "Run 1 (✓ success) wrote it" in page
    assert "Bitcoin" in page.split("as upstream sent it:")[1]


@pytest.mark.parametrize("path", ["/runs/99", "/runs/1", "/compare-runs", "/compare-runs?a=95&b=99", "/assets/csv/btc", "/search?q=bit"])
def test_every_page_takes_five_statements_at_the_most(
    client: FlaskClient, conn: Connection, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(conn)
    add_batch(conn, 99, "csv", 1, at=-50)
    add_record(conn, "btc", "Bitcoin", [1.0])
    counted = count_statements(monkeypatch)
    assert client.get(path, headers=BROWSER).status_code == 200
    assert 0 < len(counted) <= 5
