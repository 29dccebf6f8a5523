"""Pages of runs, comparisons, records and searches, as browsers get them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from sql import queries
from tests.web.boards import HOSTILE, add_batch, add_record, drifted, failed, fresh, hostile, running
from tests.web.conftest import SAMPLE
from tests.web.test_dashboard import BROWSER, CURL, commands_of, count_statements, shown
from tests.web.world import add_quarantined, add_run
from web import asset_page
from web.wording import brief

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
    assert "Run 1 of csv ✓ success" in page
    assert "0 to 4" in page
    assert "symbol" in page
    (told,) = pictures(client, "/runs/1")
    assert re.fullmatch(r"5 batches of \d+ to 5 records, committed [\d.]+ to [\d.]+ seconds after the start", told)


def test_a_run_shows_why_it_failed_and_the_field_at_fault(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn, "rss", "failed", error_type="FetchError", error_message="upstream said no")
    add_quarantined(conn, run_id, record=b"<item>bad</item>")
    page = client.get(f"/runs/{run_id}", headers=BROWSER).get_data(as_text=True)
    assert "FetchError</bdi></strong>: <bdi>upstream said no" in page
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
    assert brief(HOSTILE[external_id], 300) in unescape(answer.get_data(as_text=True))


@pytest.mark.parametrize("external_id", ["/news/1", "//news", "news/", "/", "/history"])
def test_a_page_of_an_id_with_slashes_leads_on_to_its_prices(client: FlaskClient, conn: Connection, external_id: str) -> None:
    add_record(conn, external_id, "Slashes", [1.5, 2.5])
    (path,) = re.findall(r'href="(/assets/[^"]+)"', client.get("/search?q=slashes", headers=BROWSER).text)
    answer = client.get(path, headers=BROWSER)
    assert (answer.status_code, "Slashes" in answer.text) == (200, True)
    (prices,) = re.findall(r'href="(/assets/[^"]+/history[^"]*)"', answer.text)
    assert len(client.get(unescape(prices)).get_json()["data"]) == 2


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


@pytest.mark.parametrize(("span", "points"), [("1d", 4), ("7d", 28), ("30d", 120), ("1y", 300), ("all", 300)])
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
    assert "Run 1 ✓ success wrote it" in page
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


def test_a_history_that_is_long_is_sampled_and_says_so(client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    add_record(conn, "btc", "Bitcoin", [float(number + 1) for number in range(300)])
    monkeypatch.setattr(asset_page, "EXACT", 100)
    monkeypatch.setattr(asset_page, "POINTS", 20)
    page = shown(client, "/assets/csv/btc?range=all")
    assert "of many more prices, evenly spaced" in page
    assert "first 1 " in page
    assert "last 300 " in page
    drawn = re.findall(r'<polyline class="line" points="([^"]*)"', client.get("/assets/csv/btc?range=all", headers=BROWSER).text)[0]
    assert 20 <= len(drawn.split()) <= 22


def test_the_lowest_price_within_an_interval_is_found(client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    add_record(conn, "btc", "Bitcoin", [5.0] * 50 + [1.5] + [5.0] * 49)
    monkeypatch.setattr(asset_page, "POINTS", 10)
    page = client.get("/assets/csv/btc?range=all", headers=BROWSER).text
    assert ">min 1.5<" in page
    assert "lowest and highest of every price" in page


def test_a_chart_says_its_numbers_in_words_and_shortens_long_ones(client: FlaskClient, conn: Connection) -> None:
    add_record(conn, "btc", "Bitcoin", [1.0, 2.0])
    conn.execute("update price_history set price_usd = 0.000000012345678901234567 where price_usd = 1")
    page = client.get("/assets/csv/btc", headers=BROWSER).text
    (told,) = pictures(client, "/assets/csv/btc")
    assert "min 0.000000012345678901234567 on " in told
    assert ">min 0.000000012345679<" in page


def test_a_run_whose_process_is_gone_is_stalled_as_on_the_dashboard(client: FlaskClient, conn: Connection) -> None:
    running(conn)
    assert "Run 98 of rss ‖ stalled" in shown(client, "/runs/98")
    assert commands_of(client.get("/runs/98", headers=BROWSER).text) == ["kasparro-etl run --source rss"]
    assert "Run 97 of coinpaprika ▶ running" in shown(client, "/runs/97")


def test_the_command_to_go_on_is_shown_until_a_later_run_began(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, "csv", "refused", error_message="it is empty: pass --allow-shrink if that is right")
    assert commands_of(client.get("/runs/1", headers=BROWSER).text) == ["kasparro-etl run --source csv --allow-shrink"]
    add_run(conn, "csv")
    assert commands_of(client.get("/runs/1", headers=BROWSER).text) == []


TEXTS = {
    "/runs/99": "✗ run 99 of rss: failed",
    "/compare-runs?a=95&b=99": "▲ 1 thing unusual",
    "/compare-runs": "coingecko",
    "/assets/csv/btc": "Bitcoin (SYM): 1 USD",
    "/search?q=bitc": "1 record with bitc",
}


@pytest.mark.parametrize(("path", "told"), TEXTS.items())
def test_text_is_shown_to_who_asks_for_it(client: FlaskClient, conn: Connection, path: str, told: str) -> None:
    failed(conn)
    add_record(conn, "btc", "Bitcoin", [1])
    answer = client.get(path, headers={"Accept": "text/plain"})
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert told in answer.text
    assert "<" not in answer.text
    assert client.get(path, headers=CURL).mimetype == ("application/json" if "runs" in path else "text/plain")


@pytest.mark.parametrize("path", ["/runs/1", "/compare-runs?a=1&b=2", "/assets/csv/turned", "/assets/csv/lines", "/search?q=SYM"])
def test_no_text_can_move_the_cursor_or_turn_the_line(client: FlaskClient, conn: Connection, path: str) -> None:
    hostile(conn)
    answer = client.get(path, headers={"Accept": "text/plain"})
    assert answer.status_code == 200
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", answer.text)


def test_a_command_shows_what_would_be_copied(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, "csv\u202ecod.exe", "failed")
    for path in ("/", "/runs/1"):
        page = client.get(path, headers=BROWSER).text
        assert any("\ufffd" in command for command in commands_of(page))
        assert not any("\u202e" in command for command in commands_of(page))
    assert "\u202e" not in unescape(re.findall(r"<h1.*?</h1>", client.get("/", headers=BROWSER).text, re.DOTALL)[0])


@pytest.mark.parametrize("span", asset_page.RANGES)
def test_a_chart_takes_one_statement_however_far_it_reaches(
    client: FlaskClient, conn: Connection, span: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_record(conn, "btc", "Bitcoin", [1.0, 2.0])
    counted = count_statements(monkeypatch)
    client.get(f"/assets/csv/btc?range={span}", headers=BROWSER)
    assert len(counted) == 3


def test_a_picture_of_a_long_history_reads_a_bounded_number_of_prices(conn: Connection) -> None:
    conn.execute("select ensure_price_history(array[date '2026-01-01'])")
    conn.execute(
        """insert into price_history (source, external_id, observed_at, price_usd, run_id)
        select 'csv', 'btc', timestamptz '2026-01-01 00:00+00' + n * interval '10 seconds', n, 1 from generate_series(1, 200000) n"""
    )
    conn.execute("analyze price_history")
    asked = {"source": "csv", "external_id": "btc", "from": "2026-01-01 00:00+00", "to": "2026-02-01 00:00+00", "bucket": "2 hours"}
    plan = conn.execute(b"explain (analyze, format json) " + queries["list_chart_points"], asked | {"exact": 1000}).fetchone()
    assert plan
    assert sum(rows_read(plan["QUERY PLAN"][0]["Plan"])) < 3000


def rows_read(node: dict[str, Any]) -> list[float]:
    """How many rows each scan of prices in a plan gave or threw away."""
    below = [count for each in node.get("Plans", []) for count in rows_read(each)]
    if "price_history" not in node.get("Relation Name", ""):
        return below
    return [*below, node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))]
