"""What the pages for people say: lengths of time, numbers, refused payloads, the order of a search, refusals, sections of the document."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.db import Connection
from tests.web.boards import add_batch, add_record
from tests.web.test_dashboard import BROWSER, count_statements, shown
from tests.web.world import add_quarantined, add_run
from web import search
from web.wording import price, span

SPANS = {
    0: "0.0 s",
    9.94: "9.9 s",
    9.96: "10 s",
    99.4: "99 s",
    99.6: "2 min",
    5969: "99 min",
    5971: "1 h 40 min",
    7199: "2 h 0 min",
    21595: "6 h 0 min",
    21540: "5 h 59 min",
    35999: "10 h",
    36000: "10 h",
    172_000: "2 d",
    170_000: "47 h",
    86400 * 3 - 1: "3 d",
    86400 * 1544: "1,544 d",
}


@pytest.mark.parametrize(("seconds", "told"), SPANS.items())
def test_a_length_of_time_is_rounded_once_and_then_split(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_no_length_of_time_is_told_further_off_than_half_of_its_smallest_unit() -> None:
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    for seconds in [*range(1, 200_000, 7), *range(200_000, 10_000_000, 9973)]:
        parts = re.findall(r"([\d,.]+) (\w+)", span(seconds))
        told = sum(float(number.replace(",", "")) * units[unit] for number, unit in parts)
        assert abs(told - seconds) <= units[parts[-1][1]] / 2


def test_a_price_has_every_digit_and_its_thousands_apart() -> None:
    assert [price(value) for value in (Decimal("20277"), 20277, Decimal("1E-10"), Decimal("1234.50"), None)] == [
        *("20,277", "20,277", "0.0000000001", "1,234.50", "-")
    ]


def test_prices_are_grouped_alike_wherever_a_page_shows_them(client: FlaskClient, conn: Connection) -> None:
    add_record(conn, "btc", "Bitcoin", [20277, 30000])
    page = client.get("/assets/csv/btc", headers=BROWSER).text
    assert ">first 20,277<" in page
    assert '<p class="price">30,000 ' in page
    assert not re.search(r"\b(20277|30000)\b", page.split("Where it came from")[0])
    assert "30,000" in shown(client, "/search?q=bitcoin")


def test_an_old_price_is_told_by_its_date_too_and_found_without_asking(client: FlaskClient, conn: Connection) -> None:
    add_record(conn, "btc", "Bitcoin", [1.0])
    for age, chosen in ((3, "7d"), (20, "30d"), (90, "1y"), (1544, "all")):
        conn.execute("select ensure_price_history(array[(now() - make_interval(days => %s))::date])", [age])
        conn.execute("update price_history set observed_at = now() - make_interval(days => %s)", [age])
        page = client.get("/assets/csv/btc", headers=BROWSER).text
        assert f'<a href="?range={chosen}" aria-current="page">' in page
        assert "first 1<" in page
    conn.execute("update unified_data set source_updated_at = timestamptz '2022-08-30 12:00+00'")
    assert re.search(r"d ago 2022-08-30", shown(client, "/assets/csv/btc"))


def keep_payload(conn: Connection, run_id: int, body: bytes) -> int:
    """Keep a payload of a run and return its id."""
    found = conn.execute(
        """insert into raw_payloads (source_type, source, run_id, fetched_at, url, sha256, body)
        values ('api', 'coinpaprika', %s, now(), 'https://upstream.example/list', sha256(%b), %b) returning id""",
        [run_id, body, body],
    ).fetchall()
    return int(found[0]["id"])


def test_a_refused_run_shows_the_payload_it_kept_and_its_words_agree(client: FlaskClient, conn: Connection, etl: Any) -> None:
    run_id = add_run(conn, "coinpaprika", "refused", batches=1, bytes_extracted=20, error_message="the list shrank")
    raw_id = keep_payload(conn, run_id, b'[{"id": "short-list"}]')
    page = shown(client, f"/runs/{run_id}")
    assert f"Payload{raw_id} refused, kept and not loaded" in page
    assert "short-list" in page
    assert "https://upstream.example/list" in page
    assert re.search(r"SHA-256[0-9a-f]{64}", page)
    assert "no payload" not in page
    assert "Batches0 and 1 refused" in page
    assert "No batch was committed: the one that was refused is kept" in page
    text = client.get(f"/runs/{run_id}", headers={"Accept": "text/plain"}).text
    assert "in 0 batches and 1 refused" in text
    assert 'begins:\n[{"id": "short-list"}]' in text
    told = etl("runs", "show", str(run_id)).out
    assert f"payload {raw_id} (refused, kept and not loaded), 22 bytes" in told
    assert 'begins  [{"id": "short-list"}]' in told
    (row,) = etl("runs", "show", str(run_id), "--json").objects
    assert (row["payload"]["id"], row["payload"]["head"], len(row["payload"]["sha256"])) == (raw_id, '[{"id": "short-list"}]', 64)


def test_a_refused_payload_comes_before_those_of_batches_committed_until_then(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn, "coinpaprika", "refused", batches=2)
    add_batch(conn, run_id, "coinpaprika", 1, at=-50)
    raw_id = keep_payload(conn, run_id, b"the refused one")
    page = shown(client, f"/runs/{run_id}")
    assert f"Payload{raw_id} refused" in page
    assert "Batches1 and 1 refused" in page
    assert "All 1 batches" in page


def test_a_run_that_read_what_was_kept_before_says_so(client: FlaskClient, conn: Connection) -> None:
    add_run(conn, "coinpaprika", "refused", batches=1, bytes_extracted=22)
    assert "what it read was kept already by an earlier run" in shown(client, "/runs/1")
    add_run(conn, "coinpaprika", "failed")
    assert "This run kept no payload." in shown(client, "/runs/2")


def test_records_of_a_run_and_entries_that_wait_are_told_apart(client: FlaskClient, conn: Connection) -> None:
    run_id = add_run(conn, "csv", "refused", records_quarantined=250)
    add_quarantined(conn, run_id)
    page = shown(client, f"/runs/{run_id}")
    assert "Quarantined250 records, in 1 entry" in page
    assert "an entry waits for a person" in page
    add_run(conn, "csv", "refused", records_quarantined=2)
    assert "Its entries belong to a later run" in shown(client, "/runs/2")


def found(client: FlaskClient, words: str) -> list[str]:
    """The ids that a search shows, in its order."""
    return re.findall(r'href="/assets/\w+/([^"]+)"', client.get(f"/search?q={words}", headers=BROWSER).text)


def ranked(conn: Connection) -> None:
    """Records around one name, the likeliest written last."""
    for external_id, name, symbol, rank in (
        ("wrapped", "Wrapped Bitcoin", "WBTC", 12),
        ("news", "Why Bitcoin falls", None, None),
        ("vault", "Bitcoin Vault", "BTCV", 900),
        ("cash", "Bitcoin Cash", "BCH", 20),
        ("fake", "bitcoin", "FAKE", None),
        ("bitcoin", "Bitcoin", "BTC", 1),
    ):
        add_record(conn, external_id, name, [])
        conn.execute("update unified_data set symbol = %s, rank = %s where external_id = %s", [symbol, rank, external_id])


def test_a_search_shows_what_is_likely_meant_first(client: FlaskClient, conn: Connection) -> None:
    ranked(conn)
    assert found(client, "bitcoin") == ["bitcoin", "fake", "cash", "vault", "wrapped", "news"]
    assert found(client, "btc") == ["bitcoin", "vault", "wrapped"]
    assert found(client, "bt") == ["bitcoin", "vault"]
    assert found(client, "%25_") == []
    ids = [record["external_id"] for record in client.get("/data?q=bitcoin").get_json()["data"]]
    assert ids == ["wrapped", "news", "vault", "cash", "fake", "bitcoin"]


def test_the_likeliest_is_first_however_many_others_are_found(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked(conn)
    monkeypatch.setattr(search, "MOST", 2)
    assert found(client, "bitcoin")[:2] == ["bitcoin", "fake"]
    conn.execute("update unified_data set name = 'Bitcoin ' || external_id")
    monkeypatch.setattr("web.asset_page.FOUND", 1)
    assert "The first 1 of more than 2 records" in shown(client, "/search?q=bitcoin")


def test_a_search_that_takes_too_long_falls_back_to_the_order_of_data(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked(conn)

    def late(*_: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(search, "search", late)
    counted = count_statements(monkeypatch)
    assert found(client, "bitcoin")[0] == "wrapped"
    assert 0 < len(counted) <= 4
    monkeypatch.setattr("web.asset_page.FOUND", 2)
    assert "The first 2 of more than 2 records" in shown(client, "/search?q=bitcoin")
    assert len(found(client, "bitcoin")) == 2


@pytest.mark.parametrize(
    "path", ["/assets/csv/btc?span=all", "/assets/csv/btc?range=2d", "/?sauce=csv", "/runs/1?span=all", "/compare-runs?x=1"]
)
def test_a_bad_parameter_of_a_page_is_answered_with_a_page(client: FlaskClient, conn: Connection, path: str) -> None:
    add_record(conn, "btc", "Bitcoin", [1.0])
    answer = client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (400, "text/html")
    assert f"not understood: {path.partition('?')[2].partition('=')[0]} " in answer.text
    assert answer.headers["X-Request-ID"]
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    told = client.get(path, headers={"Accept": "application/json"})
    assert (told.status_code, told.mimetype) == (400, "application/problem+json")


def test_the_api_answers_browsers_as_ever(client: FlaskClient) -> None:
    assert client.get("/data?colour=red", headers=BROWSER).mimetype == "application/problem+json"


def test_the_sections_of_the_document_are_words_and_each_is_told(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    used = {tag for path in document["paths"].values() for operation in path.values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}
    assert all(re.fullmatch(r"[A-Z][a-z]+( [a-z]+)*", tag) for tag in used)
