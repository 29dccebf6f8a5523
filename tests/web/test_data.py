"""`GET /data` and `GET /data/{id}`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.db import Connection

SORTS = [f"{sign}{key}" for key in ("id", "updated_at", "price_usd", "market_cap_usd", "rank", "name") for sign in ("", "-")]
ROWS = """
insert into unified_data (source, source_type, external_id, kind, symbol, name, category, price_usd, market_cap_usd, rank, status,
                          updated_at, raw_id, raw_position, run_id)
select s, case when s = 'news' then 'rss' else 'api' end, 'r' || n, case when s = 'news' then 'article' else 'asset' end,
       case when n %% 5 > 0 then 'S' || n %% 7 end, 'Name ' || n %% 11, 'c' || n %% 3, case when n %% 4 > 0 then n %% 6 end,
       case when n %% 3 > 0 then n * 1.10 end, case when n %% 2 > 0 then 1 + n %% 9 end, case when n = 1 then 'inactive' else 'active' end,
       timestamptz '2026-01-01' + n %% 8 * interval '1 hour', 1, n, 1
from unnest(%(sources)s::text[]) s, generate_series(1, %(rows)s) n
"""


@pytest.fixture
def rows(conn: Connection) -> None:
    """Sixty rows of three sources with many ties and many empty keys."""
    conn.execute(ROWS, {"sources": ["a", "b", "news"], "rows": 20})


def walk(client: FlaskClient, address: str | None) -> Iterator[dict[str, Any]]:
    """Every record from one address on, page after page."""
    while address:
        page = client.get(address).get_json()
        yield from page["data"]
        address = page["paging"]["next"]


@pytest.mark.parametrize("sort", SORTS)
def test_pages_by_cursor_and_by_offset_agree_and_leave_nothing_out(client: FlaskClient, rows: None, sort: str) -> None:
    whole = client.get(f"/data?sort={sort}&limit=1000").get_json()["data"]
    assert len({record["id"] for record in whole}) == 60
    assert list(walk(client, f"/data?sort={sort}&limit=7")) == whole
    assert [
        record for offset in range(0, 60, 7) for record in client.get(f"/data?sort={sort}&limit=7&offset={offset}").get_json()["data"]
    ] == whole


@pytest.mark.parametrize("sort", SORTS)
def test_records_are_in_order_with_ties_by_id_and_those_without_a_value_last(client: FlaskClient, rows: None, sort: str) -> None:
    data = client.get(f"/data?sort={sort}&limit=1000").get_json()["data"]
    key, down = sort.lstrip("-"), sort.startswith("-")
    known = [record for record in data if record[key] is not None]
    assert data[: len(known)] == sorted(known, key=lambda record: (record[key], record["id"]), reverse=down)
    assert data[len(known) :] == sorted(data[len(known) :], key=lambda record: record["id"], reverse=down)


@pytest.mark.parametrize(("asked", "found"), [("s3", True), ("S3", True), ("μbtc", True), ("μBTC", True), ("MBTC", False)])
def test_a_symbol_is_found_with_its_latin_letters_in_any_case(
    client: FlaskClient, conn: Connection, rows: None, asked: str, found: bool
) -> None:
    conn.execute("update unified_data set symbol = 'μBtc' where symbol = 'S1'")
    assert (client.get("/data", query_string={"symbol": asked}).get_json()["paging"]["total"] > 0) is found


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    "filters", ["category=c1", "min_price=2&status=active", "q=name&kind=asset", "symbol=s3", "source=b", "source_type=rss"]
)
def test_a_cursor_walks_a_selection_in_the_order_of_the_whole(client: FlaskClient, rows: None, sort: str, filters: str) -> None:
    page = client.get(f"/data?{filters}&sort={sort}&limit=1000").get_json()
    assert 0 < page["paging"]["total"] == len(page["data"]) < 60
    assert list(walk(client, f"/data?{filters}&sort={sort}&limit=2")) == page["data"]


def test_a_cursor_stays_where_it_is_while_rows_are_inserted(client: FlaskClient, conn: Connection, rows: None) -> None:
    whole = client.get("/data?sort=name&limit=1000").get_json()["data"]
    first = client.get("/data?sort=name&limit=30").get_json()
    conn.execute("update unified_data set name = 'A' where id = %s", [whole[5]["id"]])
    conn.execute(ROWS.replace("'Name '", "'Aaa '"), {"sources": ["before"], "rows": 20})
    assert [record["id"] for record in walk(client, first["paging"]["next"])] == [record["id"] for record in whole[30:]]


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        ("source=a", "source = 'a'"),
        ("source_type=rss", "source_type = 'rss'"),
        ("kind=article", "kind = 'article'"),
        ("category=c2", "category = 'c2'"),
        ("symbol=s3", "symbol = 'S3'"),
        ("symbol=S", "false"),
        ("q=NAME 10", "name = 'Name 10'"),
        ("q=s6", "symbol = 'S6'"),
        ("q=n", "true"),
        ("q=ame", "true"),
        ("q=am", "false"),
        ("status=inactive", "status = 'inactive'"),
        ("updated_since=2026-01-01T03:00:00Z", "updated_at >= '2026-01-01 03:00Z'"),
        ("updated_before=2026-01-01T05:00:00%2B02:00", "updated_at < '2026-01-01 03:00Z'"),
        ("updated_before=2026-01-01T05:00:00+02:00", "updated_at < '2026-01-01 03:00Z'"),
        ("updated_since=2026-01-02", "false"),
        ("min_price=5", "price_usd >= 5"),
        ("min_price=1.5&max_price=4.0", "price_usd between 1.5 and 4"),
        ("min_market_cap=11", "market_cap_usd >= 11"),
        ("source=a&category=c1&min_price=1&q=name", "source = 'a' and category = 'c1' and price_usd >= 1"),
        ("source=nobody", "false"),
        ("source_type=csv&kind=asset", "false"),
    ],
)
def test_a_filter_leaves_what_it_says_and_counts_it(
    client: FlaskClient, conn: Connection, rows: None, filters: str, condition: str
) -> None:
    page = client.get(f"/data?{filters}&limit=1000").get_json()
    expected = [row["id"] for row in conn.execute(f"select id from unified_data where {condition} order by id".encode()).fetchall()]
    assert sorted(record["id"] for record in page["data"]) == expected
    assert (page["paging"]["total"], page["paging"]["total_is"]) == (len(expected), "exact")


def test_wildcards_in_a_search_mean_themselves(client: FlaskClient, conn: Connection, rows: None) -> None:
    conn.execute("update unified_data set name = E'50%_off\\\\now' where id = 1")
    for text, ids in {"50%25_off": [1], "off%5Cnow": [1], "n_me": [], "nam%25": [], "off_now": []}.items():
        assert [record["id"] for record in client.get(f"/data?q={text}").get_json()["data"]] == ids, text


def test_prices_are_written_digit_for_digit_as_stored(client: FlaskClient, conn: Connection, rows: None) -> None:
    for digits in ("0.000000000000000000000012345678901234567890", "123456789012345678901234567890.10", "1.50", "0"):
        conn.execute("update unified_data set price_usd = %s::numeric where id = 1", [digits])
        assert f'"price_usd":{digits},' in client.get(f"/data?max_price=9{'9' * 35}&sort=id&symbol=&limit=1&fields=price_usd,id").text
        assert f'"price_usd":{digits},' in client.get("/data/1").text.replace('"price_usd":', '"price_usd":')
        client.application.extensions.pop("kasparro.data")


@pytest.mark.parametrize("amount", ["0.0000001", f"0.{'0' * 59}1", f"{'9' * 40}.{'9' * 60}", f"{'1' * 40}", "7.50"])
@pytest.mark.parametrize("name", ["min_price", "max_price", "min_market_cap"])
def test_the_next_page_asks_for_an_amount_with_the_digits_it_was_asked_for(
    client: FlaskClient, conn: Connection, rows: None, name: str, amount: str
) -> None:
    conn.execute("update unified_data set price_usd = %s::numeric, market_cap_usd = %s::numeric", [amount, amount])
    first = client.get(f"/data?{name}={amount}&limit=40")
    following = client.get(first.get_json()["paging"]["next"])
    assert f"{name}={amount}&" in first.headers["Link"]
    assert (following.status_code, len(following.get_json()["data"])) == (200, 20)


def test_a_cursor_keeps_every_digit_of_its_key(client: FlaskClient, conn: Connection, rows: None) -> None:
    conn.execute(
        "update unified_data set price_usd = 0.1 + id * 1e-30, updated_at = timestamptz '2026-05-05' + id * interval '1 microsecond'"
    )
    for sort in ("price_usd", "-price_usd", "updated_at", "-updated_at"):
        ids = [record["id"] for record in walk(client, f"/data?sort={sort}&limit=1&fields=id")]
        assert ids == sorted(ids, reverse=sort.startswith("-"))
        assert len(ids) == 60


def test_a_walk_by_name_passes_names_of_any_length_in_any_script(client: FlaskClient, conn: Connection) -> None:
    conn.execute(ROWS, {"sources": ["a"], "rows": 4})
    names = ["\u0411" * 70, "\u6f22\u5b57" * 350, 'a"\\' * 700, "\U0001f680" * 600]
    for number, name in enumerate(names, 1):
        conn.execute("update unified_data set name = %s where external_id = %s", [name, f"r{number}"])
    for sort in ("name", "-name"):
        walked = [record["name"] for record in walk(client, f"/data?sort={sort}&limit=1")]
        assert walked == sorted(names, reverse=sort == "-name")


def test_times_are_iso_8601_in_utc(client: FlaskClient, rows: None) -> None:
    record = client.get("/data/1").get_json()["data"]
    assert record["updated_at"] == "2026-01-01T01:00:00Z"


def test_fields_are_answered_as_asked(client: FlaskClient, rows: None) -> None:
    assert client.get("/data?limit=1&fields=name,id").get_json()["data"] == [{"name": "Name 1", "id": 1}]
    assert "fields=name,id" in client.get("/data?limit=1&fields=name,id").get_json()["paging"]["next"]


REFUSED = {
    "limit": ["-1", "0", "1001", "1000000000", "1e3", "NaN", "\u0661", "1_0", "+5", " 5", "5.0", "0x10"],
    "offset": ["-1", "100001", "1000000000", "1e3", "\u0663"],
    "min_price": ["-1", "1e3", "NaN", "Infinity", "1_000", "1,5", ".5", "1" * 60],
    "max_price": ["abc"],
    "min_market_cap": ["$5"],
    "updated_since": [
        "yesterday",
        "1700000000",
        "2026-02-30",
        "2026-01-01T25:00:00Z",
        "0001-01-01",
        "9999-12-31",
        "2026-01-01T00:00:00+99:00",
    ],
    "updated_before": ["x"],
    "sort": ["price", "--id", "id,name", "ID", "id desc", "1; select 1"],
    "fields": ["id,nothing", "*", "id,", "raw_id", "id name"],
    "kind": ["coin"],
    "status": ["gone"],
    "source_type": ["soap"],
    "source": ["a\0b", "x" * 501],
    "q": ["%", "--", "\x01abc", "'"],
    "symbol": ["a\nb"],
    "cursor": ["", "abc", "ä", "AAAA", "A" * 499, "../../etc/passwd"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values if value])
def test_a_value_that_is_none_is_refused_by_its_name(client: FlaskClient, rows: None, name: str, value: str) -> None:
    answer = client.get("/data", query_string={name: value})
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"
    assert [fault["parameter"] for fault in answer.get_json()["errors"]] == [name]


@pytest.mark.parametrize("query", ["limit=1&limit=2", "colour=red", "offset=1&cursor=x"])
def test_a_query_that_is_not_clear_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/data?{query}").status_code == 400


def forged(cursor: str, change: Callable[[bytes], bytes]) -> str:
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    return base64.urlsafe_b64encode(change(raw)).decode().rstrip("=")


def test_a_cursor_that_was_edited_or_is_of_another_query_is_refused(client: FlaskClient, rows: None) -> None:
    cursor = client.get("/data?sort=price_usd&kind=asset&limit=3").get_json()["paging"]["next_cursor"]
    good = {"sort": "price_usd", "kind": "asset", "limit": "5", "cursor": cursor}
    assert client.get("/data", query_string=good).status_code == 200
    bad = [
        forged(cursor, lambda raw: raw[:-2] + bytes([raw[-2] ^ 1]) + raw[-1:]),
        forged(cursor, lambda raw: raw[:12] + json.dumps(["1", 1]).encode()),
    ]
    bad += [cursor[:-3], cursor[1:], cursor + "A", cursor + "=", f"{cursor}.", cursor.swapcase()]
    others = [{"sort": "-price_usd"}, {"sort": "rank"}, {"kind": "article"}, {"category": "c1"}]
    for query in [good | {"cursor": edited} for edited in bad] + [good | other for other in others]:
        answer = client.get("/data", query_string=query)
        assert answer.status_code == 400, query
        assert [fault["parameter"] for fault in answer.get_json()["errors"]] == ["cursor"]


def test_a_count_beyond_the_limit_is_an_estimate_and_says_so(client: FlaskClient, conn: Connection) -> None:
    conn.execute(ROWS, {"sources": ["a", "b"], "rows": 8000})
    conn.execute("analyze unified_data")
    exact = client.get("/data?kind=asset&limit=1").get_json()["paging"]
    guess = client.get("/data?updated_since=2026-01-01&limit=1").get_json()["paging"]
    assert (exact["total"], exact["total_is"]) == (16_000, "exact")
    assert guess["total_is"] == "estimate"
    assert 10_000 < guess["total"] < 25_000


def test_one_record_is_answered_by_its_id(client: FlaskClient, filled: None) -> None:
    listed = client.get("/data?limit=1&symbol=btc").get_json()["data"][0]
    assert client.get(f"/data/{listed['id']}").get_json()["data"] == listed
    assert listed["price_usd"] == 64218.37


@pytest.mark.parametrize(
    "path", ["/data/0", "/data/999", "/data/9223372036854775807", "/data/9223372036854775808", "/data/x", "/data/1.5", "/data/-1"]
)
def test_an_id_that_nothing_has_is_not_found(client: FlaskClient, filled: None, path: str) -> None:
    assert client.get(path).status_code == 404


def test_head_answers_the_headers_alone(client: FlaskClient, filled: None) -> None:
    got, head = client.get("/data?limit=2"), client.head("/data?limit=2")
    assert head.status_code == 200
    assert head.data == b""
    assert (head.headers["ETag"], head.headers["Link"]) == (got.headers["ETag"], got.headers["Link"])


def test_the_next_page_is_linked_and_the_last_has_none(client: FlaskClient, rows: None) -> None:
    first = client.get("/data?limit=50")
    following = first.get_json()["paging"]["next"]
    assert first.headers["Link"] == f'<{following}>; rel="next"'
    last = client.get(following)
    assert "Link" not in last.headers
    assert last.get_json()["paging"] == {"limit": 50, "offset": None, "total": 60, "total_is": "exact", "next_cursor": None, "next": None}


def test_an_empty_database_has_an_empty_page(client: FlaskClient) -> None:
    page = client.get("/data").get_json()
    assert page["data"] == []
    assert page["paging"]["total"] == 0
