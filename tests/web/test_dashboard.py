"""`GET /`: the verdict, the states, what waits for a person, as a page and as text; `/events`."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from shared.settings import read_settings
from tests.web.boards import SCRIPT, STATES, drifted, failed, fresh, hold
from tests.web.world import add_quarantined, add_run
from web import create_app, dashboard
from web.connection import Connection as Ours
from web.db import forget

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
CURL = {"Accept": "*/*", "User-Agent": "curl/8.5.0"}


def shown(client: FlaskClient, path: str = "/") -> str:
    """A page as a browser gets it, its text unescaped and its blanks single."""
    answer = client.get(path, headers=BROWSER)
    assert answer.mimetype == "text/html"
    return " ".join(unescape(re.sub(r"<[^>]+>", "", answer.get_data(as_text=True))).split())


def commands_of(page: str) -> list[str]:
    """The commands of a page as they are copied."""
    found = re.findall(r'<pre class="command"><code>(.*?)</code>', page)
    return [unescape(re.sub(r"<[^>]+>", "", command)) for command in found]


def title(client: FlaskClient) -> str:
    return unescape(re.findall(r"<title>(.*?)</title>", client.get("/", headers=BROWSER).get_data(as_text=True), re.DOTALL)[0])


VERDICTS = {
    "empty": "▲ Nothing has run yet",
    "fresh": "✓ All 4 sources fresh",
    "late": "✗ rss late 7 h 2 min",
    "failed": "✗ coinpaprika failed · coingecko refused · rss failed · 129 quarantined",
    "running": "✗ rss stalled",
    "drifted": "✗ coinpaprika refused · 2 drift decisions",
}


@pytest.mark.parametrize(("state", "verdict"), VERDICTS.items())
def test_the_verdict_is_the_title(client: FlaskClient, conn: Connection, state: str, verdict: str) -> None:
    STATES[state](conn)
    assert title(client) == f"{verdict} | Kasparro ETL"
    assert f"{verdict[2:]}</h1>" in unescape(client.get("/", headers=BROWSER).get_data(as_text=True))


def test_a_source_that_never_ran_is_told_and_no_fault(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, "csv")
    assert title(client) == "✓ 1 of 4 sources fresh, coinpaprika, coingecko, rss never ran | Kasparro ETL"


def test_a_source_that_runs_again_after_a_long_time_is_still_late(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, "csv", ago=3 * 86400)
    add_run(conn, "csv", "running", took=5)
    hold(conn, "csv", 2, 60)
    assert title(client).startswith("✗ csv running, late 3 d")


COMMANDS = {
    "empty": ["kasparro-etl run --source all"],
    "late": ["kasparro-etl run --source rss"],
    "failed": [
        "kasparro-etl run --source coinpaprika",
        "kasparro-etl run --source coingecko --allow-shrink",
        "kasparro-etl run --source rss",
        "kasparro-etl quarantine list --source csv",
    ],
    "running": ["kasparro-etl run --source rss"],
    "drifted": ["kasparro-etl drift list --source coinpaprika", "kasparro-etl drift accept 2 --force", "kasparro-etl drift accept 1"],
    "fresh": [],
}


@pytest.mark.parametrize(("state", "commands"), COMMANDS.items())
def test_what_waits_for_a_person_comes_with_its_command(client: FlaskClient, conn: Connection, state: str, commands: list[str]) -> None:
    STATES[state](conn)
    page = client.get("/", headers=BROWSER).get_data(as_text=True)
    assert commands_of(page) == commands


REFUSALS = {
    "129 of 500 records are invalid: see `kasparro-etl quarantine list`, or raise the ratio": "kasparro-etl quarantine list --source csv",
    "price is missing: kasparro-etl drift accept 3 if that is right": "kasparro-etl drift list --source csv",
    "it is empty: pass --allow-shrink if that is right": "kasparro-etl run --source csv --allow-shrink",
    "prices.csv is no table: mend it": "kasparro-etl run --source csv",
}


@pytest.mark.parametrize(("message", "command"), REFUSALS.items())
def test_the_command_after_a_refusal_is_what_its_message_asks_for(
    client: FlaskClient, conn: Connection, message: str, command: str
) -> None:
    add_run(conn, "csv", "refused", error_message=message)
    assert commands_of(client.get("/", headers=BROWSER).get_data(as_text=True)) == [command]


def test_a_run_that_no_worker_takes_waits_for_a_person(client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.board.STANDS", 1e-6)
    add_run(conn, "csv")
    add_run(conn, "csv", "queued", trigger="api", started_at=None)
    assert commands_of(client.get("/", headers=BROWSER).text) == []
    conn.execute("update etl_runs set requested_at = now() - interval '6 minutes' where status = 'queued'")
    page = client.get("/", headers=BROWSER).text
    assert "csv: 1 run queued, and no worker takes it" in page
    assert commands_of(page) == ["kasparro-etl worker --once"]


def test_what_failed_says_since_when_and_how_often(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, "csv", ago=9000)
    for ago in (6000, 3000, 1000):
        add_run(conn, "csv", "failed", ago=ago)
    add_run(conn, "csv", "failed", ago=500, trigger="backfill")
    since = conn.execute("select finished_at from etl_runs where id = 2").fetchone()
    assert since
    assert f"{since['finished_at']:%Y-%m-%d %H:%M:%S} UTC, 3 runs in a row" in shown(client)


def test_records_a_run_are_of_those_that_succeeded(client: FlaskClient, conn: Connection) -> None:
    for records in (100, 300):
        add_run(conn, "csv", records_updated=records)
    add_run(conn, "csv", "failed")
    assert "300 last, 100 to 300" in shown(client)


def test_a_checkpoint_says_where_the_next_run_begins(client: FlaskClient, conn: Connection) -> None:
    hold(conn, "csv")
    hold(conn, "rss", expires=60)
    page = shown(client)
    assert re.search(r"between payloads, [\d.]+ s ago: checkpoint of csv", page)
    assert re.search(r"record 2,500 of a payload, [\d.]+ s ago: checkpoint of rss", page)


def test_every_command_is_one_of_the_programs(client: FlaskClient, conn: Connection, etl: Any) -> None:
    drifted(conn)
    add_quarantined(conn, 1)
    page = client.get("/", headers=BROWSER).get_data(as_text=True)
    commands = commands_of(page)
    assert len(commands) == 4
    for command in commands:
        done = etl(*command.split()[1:], "--help")
        assert done.code == 0, done.err
        assert all(option in done.out for option in re.findall(r"--\w+", command))


def test_drift_and_quarantine_are_told_with_what_was_seen(client: FlaskClient, conn: Connection) -> None:
    drifted(conn)
    add_quarantined(conn, 1)
    page = shown(client)
    for told in ("looks renamed to usd_price", "93 %", '"64210.55"', "magnitude differs by a factor of 100", "price: is no number"):
        assert told in page
    assert "beta_value" not in page


def test_a_strip_links_each_of_the_last_thirty_runs_oldest_first(client: FlaskClient, conn: Connection) -> None:
    for number in range(40):
        add_run(conn, "csv", ago=4000 - number, took=100 if number == 39 else 5)
    strip = re.findall(r'<a class="(\w+) tall(\d)" href="/runs/(\d+)"', client.get("/", headers=BROWSER).get_data(as_text=True))
    assert [int(run) for _, _, run in strip] == list(range(11, 41))
    assert (strip[-1], strip[-2]) == (("success", "4", "40"), ("success", "2", "39"))


def test_recent_runs_are_compared_with_the_one_before(client: FlaskClient, conn: Connection) -> None:
    fresh(conn)
    page = client.get("/", headers=BROWSER).get_data(as_text=True)
    assert page.count("/compare-runs?a=") == 25
    assert "/compare-runs?a=92&amp;b=96" in page


def test_one_source_alone_can_be_looked_at(client: FlaskClient, conn: Connection) -> None:
    failed(conn)
    page = shown(client, "/?source=rss")
    assert "rss failed" in page
    assert "coingecko" not in page
    assert client.get("/?source=nobody", headers=BROWSER).status_code == 404


@pytest.mark.parametrize("state", STATES)
def test_a_page_takes_five_statements_at_the_most(
    conn: Connection, client: FlaskClient, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    STATES[state](conn)
    counted = count_statements(monkeypatch)
    client.get("/", headers=BROWSER)
    assert len(counted) == 5


def count_statements(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note every statement that the app's connections execute from now on."""

    sent, execute = list[Any](), Ours.execute

    def noted(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        sent.append(query)
        return execute(self, query, *args, **options)

    def noted_beside(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        sent.append(query)
        return beside(self, query, *args, **options)

    beside = psycopg.ClientCursor.execute
    monkeypatch.setattr(Ours, "execute", noted)
    monkeypatch.setattr(psycopg.ClientCursor, "execute", noted_beside)
    return sent


def test_who_comes_within_two_seconds_is_shown_the_same_board(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.board.STANDS", 3600.0)
    fresh(conn)
    counted = count_statements(monkeypatch)
    for path in ("/", "/?source=rss", "/events"):
        client.get(path, headers=BROWSER)
    assert len(counted) == 5


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        (BROWSER, "text/html"),
        ({}, "text/html"),
        ({"Accept": "*/*"}, "text/html"),
        (CURL, "text/plain"),
        ({"Accept": "text/plain"}, "text/plain"),
    ],
)
def test_the_form_is_what_is_asked_for(client: FlaskClient, headers: dict[str, str], kind: str) -> None:
    answer = client.get("/", headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize("state", STATES)
def test_a_terminal_is_told_the_same(client: FlaskClient, conn: Connection, state: str) -> None:
    STATES[state](conn)
    text = client.get("/", headers=CURL).get_data(as_text=True)
    assert text.startswith(title(client).removesuffix(" | Kasparro ETL") + "\n")
    assert all(command in text for command in COMMANDS.get(state, []))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", ["/", "/runs/1", "/compare-runs", "/search?q=%3Cscript%3E", "/assets/csv/script", "/nothing"])
def test_nothing_that_was_loaded_becomes_markup(client: FlaskClient, conn: Connection, state: str, path: str) -> None:
    STATES[state](conn)
    page = client.get(path, headers=BROWSER).get_data(as_text=True)
    assert SCRIPT not in page
    assert "<img" not in page
    assert not re.search(r"<[^>]+\s(style|on\w+)=", page)


def test_the_policy_lets_nothing_in_from_elsewhere(client: FlaskClient) -> None:
    answer = client.get("/", headers=BROWSER)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", answer.get_data(as_text=True))


def test_the_files_of_the_pages_are_there_and_nothing_else(client: FlaskClient) -> None:
    page = client.get("/", headers=BROWSER).get_data(as_text=True)
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        assert client.get(path).status_code == 200
    assert client.get("/static/docs.html").status_code == 404


def test_without_scripts_the_page_renews_itself(client: FlaskClient) -> None:
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in client.get("/", headers=BROWSER).get_data(as_text=True)


def test_an_event_comes_when_the_board_changed(client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.board.STANDS", 1e-6)
    first = client.get("/events").get_data(as_text=True)
    again = client.get("/events").get_data(as_text=True)
    add_run(conn)
    assert re.fullmatch("retry: 2000\n\ndata: [0-9a-f]{16}\n\n", first)
    assert first == again != client.get("/events").get_data(as_text=True)


@pytest.mark.parametrize("path", ["/", "/?source=rss"])
def test_a_page_names_the_board_it_was_made_of_as_the_events_do(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("web.board.STANDS", 1e-6)
    fresh(conn)
    named = []
    for _ in range(2):
        named += re.findall(r'<main [^>]*data-seen="([0-9a-f]{16})"', client.get(path, headers=BROWSER).text)
        assert f"data: {named[-1]}\n\n" in client.get("/events").text
        add_run(conn, "csv", "failed")
    assert len(set(named)) == 2


def test_a_stream_goes_on_and_tells_of_a_change(client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.board.STANDS", 1e-6)
    monkeypatch.setattr(dashboard, "LOOKS", 0.05)
    stream = client.get("/events", headers={"Accept": "text/event-stream"})
    parts = iter(stream.response)
    first = [next(parts), next(parts)]
    add_run(conn)
    later = next(part for part in parts if b"data" in part)
    assert later != first[1]
    stream.close()


def test_streams_of_a_process_are_few_and_given_back(client: FlaskClient) -> None:
    asked = {"Accept": "text/event-stream"}
    held = [client.get("/events", headers=asked) for _ in range(dashboard.STREAMS)]
    assert client.get("/events", headers=asked).status_code == 204
    for each in held:
        each.close()
    with client.get("/events", headers=asked) as again:
        assert again.status_code == 200


def test_a_database_that_is_not_migrated_is_told_on_a_page(empty_dsn: str) -> None:

    app = create_app(read_settings({}), empty_dsn)
    answer = app.test_client().get("/", headers=BROWSER)
    forget(app.extensions["kasparro"].reader)
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert "kasparro-etl migrate" in answer.get_data(as_text=True)
    assert 'http-equiv="refresh"' in answer.get_data(as_text=True)


def test_whoever_listens_does_not_hold_up_the_end_of_the_server(serve: Any, dsn: str) -> None:
    server = serve(DATABASE_URL=dsn)
    with server.get("/events", headers={"Accept": "text/event-stream"}, stream=True) as stream:
        parts = stream.iter_lines()
        assert next(parts) == b"retry: 2000"
        asked = time.monotonic()
        server.process.terminate()
        assert b"data" in b"".join(parts)
        server.process.wait(timeout=30)
    assert time.monotonic() - asked < 0.8 * dashboard.LASTS


def test_fifty_open_dashboards_leave_the_server_free(serve: Any, dsn: str) -> None:
    server = serve(DATABASE_URL=dsn)
    asked = {"Accept": "text/event-stream"}
    with ThreadPoolExecutor(50) as pool:
        streams = list(pool.map(lambda _: server.get("/events", headers=asked, stream=True), range(50)))
        codes = [stream.status_code for stream in streams]
        assert set(codes) <= {200, 204}
        assert codes.count(200) <= 2 * dashboard.STREAMS
        for path in ("/health", "/health/live", "/"):
            assert all(answer.status_code == 200 for answer in pool.map(server.get, [path] * 20))
        for stream in streams:
            stream.close()
