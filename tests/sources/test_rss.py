"""The RSS source: small payloads of the recorded shapes field by field, and a corpus of real and nasty feeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import feedparser
import pytest
from pydantic import ValidationError

from etl.errors import FetchError, SourceError
from etl.source import Cursor, Payload, Response, Row
from etl.sources import rss
from etl.sources.rss import SOURCE, Entry
from shared.confined import Bounds
from shared.errors import KasparroError
from shared.model import RateLimit
from shared.settings import Settings

PAYLOADS = Path(__file__).parent.parent / "payloads" / "rss"
NOW = datetime(2026, 10, 2, 20, 0, tzinfo=UTC)
FIRST, SECOND, THIRD = (f"https://{name}.example.com/rss" for name in ("first", "second", "third"))


@pytest.fixture(autouse=True)
def _fresh_cache() -> None:
    rss.latest.clear()


def payload(body: bytes | str, content_type: str = "application/xml", url: str = FIRST) -> Payload:
    """A payload from the body given, or from the recorded file of that name."""
    read = body if isinstance(body, bytes) else (PAYLOADS / body).read_bytes()
    return Payload(read, url, {}, NOW, {"content_type": content_type, "url": url})


def values(body: bytes | str, **facts: str) -> list[dict[str, Any]]:
    return list(SOURCE.parse(payload(body, **facts)))


def rows(body: bytes | str, **facts: str) -> list[Row]:
    return [SOURCE.normalize(Entry.model_validate(value)) for value in values(body, **facts)]


def item(content: str) -> bytes:
    return f'<rss version="2.0"><channel><title>T</title><item>{content}</item></channel></rss>'.encode()


def title(text: str) -> Any:
    return values(item(f"<title>{text}</title>"))[0]["title"]


def odd(name: str) -> dict[str, Any]:
    return next(value for value in values("odd.xml") if value["title"] == name)


def normalized(name: str) -> Row:
    return SOURCE.normalize(Entry.model_validate(odd(name)))


class Upstream:
    """A fetch that answers from a table and keeps the requests."""

    def __init__(self, answers: Mapping[str, Response | SourceError]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, dict[str, str], bool]] = []

    def __call__(
        self, url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, follow_redirects: bool = False
    ) -> Response:
        self.requests.append((url, dict(headers or {}), follow_redirects))
        answer = self.answers[url]
        if isinstance(answer, SourceError):
            raise answer
        return answer


def feed(url: str, body: bytes | None = None, **headers: str) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(200, item("<title>x</title>") if body is None else body, {"content-type": "application/rss+xml", **sent}, url)


def run(upstream: Upstream, urls: tuple[str, ...], cursor: Cursor | None = None) -> tuple[list[Payload], SourceError | None]:
    """Take all payloads, and the error at the end."""
    loaded: list[Payload] = []
    try:
        for one in SOURCE.extract(Settings(rss_feed_urls=urls), upstream, cursor or {}):
            loaded.append(one)
    except SourceError as error:
        return loaded, error
    return loaded, None


def test_a_cointelegraph_item_is_read_field_by_field() -> None:
    assert values("cointelegraph.xml")[0] == {
        "guid": "https://news.example.com/news/stablecoin-supply",
        "link": "https://news.example.com/news/stablecoin-supply?utm_source=rss_feed&utm_medium=rss",
        "title": "Stablecoin supply & demand: what's next",
        "summary": "Supply grew by 3%.",
        "published": "2026-10-02T17:26:43+00:00",
        "updated": None,
        "categories": ["Markets", 'Stable"coins\\'],
        "author": "Example Coins by Ada Writer",
    }


def test_a_cointelegraph_item_becomes_an_article() -> None:
    assert rows("cointelegraph.xml")[0] == Row(
        kind="article",
        external_id="https://news.example.com/news/stablecoin-supply",
        symbol=None,
        name="Stablecoin supply & demand: what's next",
        category="Markets",
        price_usd=None,
        market_cap_usd=None,
        volume_24h_usd=None,
        percent_change_24h=None,
        rank=None,
        url="https://news.example.com/news/stablecoin-supply?utm_source=rss_feed&utm_medium=rss",
        tags='{"Markets","Stable\\"coins\\\\"}',
        source_updated_at=datetime(2026, 10, 2, 17, 26, 43, tzinfo=UTC),
    )


def test_times_are_in_utc_and_an_item_without_category_is_uncategorized() -> None:
    row = rows("cointelegraph.xml")[1]
    assert (row.source_updated_at, row.category, row.tags) == (datetime(2026, 10, 2, 12, 40, 24, tzinfo=UTC), "uncategorized", None)


def test_an_evergreen_guid_published_again_is_the_same_article_with_a_later_time() -> None:
    body = (PAYLOADS / "cointelegraph.xml").read_bytes()
    before, after = rows(body)[1], rows(body.replace(b"02 Oct 2026 14:40", b"03 Oct 2026 14:40"))[1]
    assert before.external_id == after.external_id == "https://news.example.com/news/what-happened-today"
    assert isinstance(before.source_updated_at, datetime)
    assert after.source_updated_at == before.source_updated_at + timedelta(days=1)


def test_a_coindesk_item_keeps_its_uuid_and_its_empty_description_is_none() -> None:
    value, row = values("coindesk.xml")[0], rows("coindesk.xml")[0]
    assert (value["summary"], value["title"]) == (None, "Miners move north")
    assert row.external_id == "0c6f1f0e-7f0a-4c39-9a57-0d9a4b0e2c11"
    assert row.url == "https://desk.example.com/business/2026/10/02/miners-move-north"


def test_an_atom_entry_takes_its_alternate_link_its_tag_and_the_later_of_its_times() -> None:
    value = values("atom.xml", url="https://atom.example.com/feed")[0]
    assert value["link"] == "https://atom.example.com/posts/1"
    assert (value["published"], value["updated"]) == ("2026-10-01T06:00:00+00:00", "2026-10-02T18:30:02+00:00")
    assert (value["guid"], value["author"], value["categories"]) == ("tag:atom.example.com,2026:1", "Bo", ["Layer 2"])
    assert rows("atom.xml")[0].source_updated_at == datetime(2026, 10, 2, 18, 30, 2, tzinfo=UTC)


def test_an_rdf_item_is_identified_by_its_address() -> None:
    (row,) = rows("rdf.xml")
    assert (row.external_id, row.name, row.category) == ("https://rdf.example.com/1", "One", "Archive")
    assert row.source_updated_at == datetime(2026, 10, 2, 10, tzinfo=UTC)


def test_a_windows_1251_feed_is_decoded_as_it_declares_itself() -> None:
    (row,) = rows("windows_1251.xml", content_type="text/xml")
    assert (row.name, row.category, row.external_id) == ("Биткоин вырос", "Рынок", "7")


def test_utf_8_is_not_mistaken_for_latin_1_when_nothing_declares_it() -> None:
    assert values(item("<title>Ünïcode € ok</title>"), content_type="")[0]["title"] == "Ünïcode € ok"


def test_an_entry_without_guid_is_identified_by_its_link() -> None:
    assert normalized("No guid").external_id == "https://odd.example.com/no-guid"


def test_an_entry_without_guid_and_link_is_identified_by_title_and_time() -> None:
    told = "Only a title2026-10-02T10:00:00+00:00"
    assert normalized("Only a title").external_id == hashlib.sha256(told.encode()).hexdigest()


@pytest.mark.parametrize("name", ["No date", "Bad date", "Old date"])
def test_a_date_that_is_missing_or_unusable_is_none(name: str) -> None:
    assert (odd(name)["published"], normalized(name).source_updated_at) == (None, None)


@pytest.mark.parametrize(("year", "kept"), [(1969, False), (1970, True), (2100, True), (2101, False), (99999, False)])
def test_a_year_outside_1970_to_2100_is_no_date(year: int, kept: bool) -> None:
    value = values(item(f"<title>x</title><pubDate>{year}-06-01T00:00:00Z</pubDate>"))[0]
    assert value["published"] == (f"{year}-06-01T00:00:00+00:00" if kept else None)


def test_an_entry_without_title_link_and_guid_is_refused_with_a_reason() -> None:
    bare = next(value for value in values("odd.xml") if value["summary"] == "Nothing else")
    with pytest.raises(ValidationError, match="no guid, link or title"):
        Entry.model_validate(bare)


@pytest.mark.parametrize("sent", ["a\0b", "a\ud800b", "\udfff"])
@pytest.mark.parametrize("field", ["guid", "link", "title", "summary", "author"])
def test_text_that_postgres_cannot_store_is_refused_with_a_reason(field: str, sent: str) -> None:
    with pytest.raises(ValidationError, match="NUL character or a lone surrogate"):
        Entry.model_validate({"guid": "1", field: sent})


def test_a_nul_in_a_body_refuses_its_entry_and_not_the_feed() -> None:
    good, bad = values(item("<title>good</title></item><item><title>ba\0d</title>"))
    assert Entry.model_validate(good).title == "good"
    with pytest.raises(ValidationError, match="NUL"):
        Entry.model_validate(bad)


def test_a_bare_guid_is_an_id_as_sent_and_never_a_link() -> None:
    assert (normalized("Bare guid").external_id, normalized("Bare guid").url) == ("12345", None)


def test_a_link_that_is_not_http_is_parsed_and_not_loaded() -> None:
    assert (odd("Mail")["link"], normalized("Mail").url) == ("javascript:alert(1)", None)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("/a", "https://first.example.com/a"),
        ("//cdn.example.com/a", "https://cdn.example.com/a"),
        ("//[bad", "https://[bad"),
        ("http://[", "http://["),
    ],
)
def test_a_relative_link_is_completed_and_a_broken_one_does_not_stop_the_feed(sent: str, read: str) -> None:
    assert values(item(f"<title>x</title><link>{sent}</link>"))[0]["link"] == read


def test_a_guid_twice_in_a_feed_is_given_twice_in_its_order() -> None:
    assert [value["title"] for value in values("odd.xml") if value["guid"] == "twice"] == ["Twice", "Twice, later"]


def test_an_id_too_long_to_index_is_hashed_in_bytes_and_one_that_fits_is_kept() -> None:
    fits, long, wide = "g" * 1000, "g" * 1001, "\u4e2d" * 400
    ids = [SOURCE.normalize(Entry(guid=guid)).external_id for guid in (fits, long, wide)]
    assert ids == [fits, hashlib.sha256(long.encode()).hexdigest(), hashlib.sha256(wide.encode()).hexdigest()]


def test_long_titles_and_categories_are_cut_and_blank_categories_dropped() -> None:
    row = SOURCE.normalize(Entry(guid="1", title="t" * 3000, categories=("  ", "c" * 300)))
    assert (len(row.name), row.category, row.tags) == (2000, "c" * 200, '{"' + "c" * 200 + '"}')


def test_an_article_without_title_is_named_by_its_link_and_then_by_its_guid() -> None:
    assert SOURCE.normalize(Entry(guid="1", link="https://a.example.com")).name == "https://a.example.com"
    assert SOURCE.normalize(Entry(guid="1")).name == "1"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("A &amp;amp; B", "A & B"),
        ("A &amp;amp;amp; B", "A & B"),
        ("<![CDATA[<p>one</p>two<br>three]]>", "one two three"),
        ("<![CDATA[Bit<b>coin</b>]]>", "Bitcoin"),
        ("<![CDATA[<script>evil()</script>kept<!-- not -->]]>", "kept"),
        ("I &lt;3 fees &lt;b", "I <3 fees <b"),
        ("x &lt;![ y", "x <![ y"),
        ("  a \n\t b  ", "a b"),
        ("<![CDATA[<img src='a'>]]>", None),
    ],
)
def test_markup_becomes_the_text_a_reader_sees(sent: str, read: str | None) -> None:
    assert title(sent) == read


def test_an_ill_formed_feed_gives_the_entries_it_holds() -> None:
    assert [value["guid"] for value in values("ill_formed.xml")] == ["a", "b", "c", "d"]
    assert values("ill_formed.xml")[0]["title"] == "Fees & tips"


@pytest.mark.parametrize("body", [b"", b"  ", b"hello", b"{}", "block_page.html", (PAYLOADS / "odd.xml").as_posix().encode()])
def test_a_body_that_is_not_a_feed_is_refused_even_when_it_names_a_local_file(body: bytes | str) -> None:
    with pytest.raises(SourceError, match="not a feed") as refused:
        values(body, content_type="text/html")
    assert not refused.value.permanent


def test_a_well_formed_feed_without_entries_is_a_feed() -> None:
    assert values(b'<rss version="2.0"><channel><title>T</title></channel></rss>') == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("prolog", ["", "<?pi <rss?>", "<!-- <rss> -->", "<!-- "])
def test_declared_entities_are_refused_before_they_expand(prolog: str, encoding: str) -> None:
    declared = f'<!DOCTYPE rss [\n<!ENTITY a "{"x" * 50}">\n<!ENTITY b "&a;&a;">]>'
    bomb = f'{prolog}{declared}<rss version="2.0"><channel><item><title>&b;</title></item></channel></rss>'
    with pytest.raises(SourceError, match="declares xml entities"):
        values(bomb.encode(encoding))


def test_an_article_about_entities_is_not_a_bomb() -> None:
    assert values(item("<title>x</title><description><![CDATA[<pre>&lt;!ENTITY a> <!ENTITY b></pre>]]></description>"))[0]["title"] == "x"


def test_a_body_over_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(SourceError, match="at most 10485760"):
        values(item("<title>x</title>") + b" " * rss.MAX_BODY)


def test_a_character_that_feedparser_chokes_on_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="UnicodeEncodeError"):
        values(item("<title>&#xD800;</title>"))


@pytest.mark.parametrize("error", [RecursionError(), AssertionError("x"), KasparroError("x")])
def test_whatever_feedparser_raises_is_a_source_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(feedparser, "parse", fail)
    with pytest.raises(SourceError, match=type(error).__name__):
        values("odd.xml")


TINY = Bounds(cpu=1, seconds=20, memory=96 << 20)
MANY = b'<rss version="2.0"><channel>' + b"<item/>" * 400_000 + b"</channel></rss>"


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        (TINY, "feed takes more than 1 s of processor time to parse: take a simpler feed"),
        (replace(TINY, cpu=60, seconds=0.2), "feed takes more than 0.2 s to parse"),
    ],
)
def test_a_feed_that_takes_too_long_is_refused(bounds: Bounds, told: str) -> None:
    with pytest.raises(SourceError, match=told) as refused:
        rss.read_feed(MANY, "text/xml", FIRST, bounds)
    assert refused.value.permanent


def test_a_feed_that_takes_too_much_memory_is_refused() -> None:
    with pytest.raises(SourceError, match="feed takes more than 8 MiB of memory to parse"):
        rss.read_feed(MANY, "text/xml", FIRST, Bounds(cpu=60, seconds=60, memory=8 << 20))


def test_a_stored_feed_has_more_room_than_a_fetched_one_so_that_a_run_can_always_go_on() -> None:
    assert rss.STORED.cpu >= 4 * rss.FETCHED.cpu
    assert rss.STORED.memory > rss.FETCHED.memory
    assert rss.STORED.seconds > rss.FETCHED.seconds


def test_nothing_of_a_feed_that_takes_too_long_is_kept_and_the_other_feeds_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rss, "FETCHED", TINY)
    loaded, error = run(Upstream({FIRST: feed(FIRST, MANY), SECOND: feed(SECOND)}), (FIRST, SECOND))
    assert [one.url for one in loaded] == [SECOND]
    assert "1 of 2 feeds failed" in str(error)
    assert loaded[0].cursor == {"feeds": {SECOND: {}}}


CUT = b'<rss version="2.0"><channel><item><title>x</title></item><item><title>y'
WIDE = '<?xml version="1.0" encoding="utf-16"?>'.encode("utf-16")


@pytest.mark.parametrize("body", [CUT, CUT + b"</title></item></channel>", WIDE + CUT.decode().encode("utf-16-le")])
def test_a_feed_cut_where_http_does_not_show_its_end_is_not_stored(body: bytes) -> None:
    loaded, error = run(Upstream({FIRST: feed(FIRST, body)}), (FIRST,))
    assert (loaded, str(error)) == ([], f"{FIRST}: feed was cut short on its way: try again later")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (CUT, {"content_length": "72"}),
        (CUT, {"transfer_encoding": "chunked"}),
        (CUT, {"content_encoding": "gzip"}),
        (item("<title>x</title>") + b"\n<!-- cached -->", {}),
        (WIDE + item("<title>x</title>").decode().encode("utf-16-le"), {}),
        ((PAYLOADS / "atom.xml").read_bytes(), {}),
        ((PAYLOADS / "rdf.xml").read_bytes(), {}),
    ],
)
def test_a_feed_whose_end_is_shown_is_taken_as_it_is(body: bytes, headers: dict[str, str]) -> None:
    (loaded,), error = run(Upstream({FIRST: feed(FIRST, body, **headers)}), (FIRST,))
    assert (loaded.body, error) == (body, None)


def test_an_excerpt_is_the_element_as_sent() -> None:
    sent = payload("odd.xml")
    found = SOURCE.excerpts(sent, [2, 5])
    assert found[5] == b"<item><description>Nothing else</description></item>"
    assert found[2].startswith(b"<item><title>No date")
    assert found[2].endswith(b"in text]]></description></item>")
    assert set(found) == {2, 5}


@pytest.mark.parametrize(("name", "start", "end"), [("atom.xml", b"<entry>", b"</entry>"), ("rdf.xml", b"<item rdf:about=", b"</item>")])
def test_atom_and_rdf_have_excerpts_too(name: str, start: bytes, end: bytes) -> None:
    found = SOURCE.excerpts(payload(name), [0])[0]
    assert found.startswith(start)
    assert found.endswith(end)


def test_an_excerpt_of_a_torn_or_nested_element_ends_where_the_next_begins() -> None:
    found = SOURCE.excerpts(payload("ill_formed.xml"), range(4))
    assert [excerpt.count(b"<item>") for excerpt in found.values()] == [1, 1, 1, 1]
    assert b"Outer" in found[1]
    assert b"Inner" in found[2]
    assert b"Cut off" in found[3]


def test_empty_elements_and_prefixes_are_told_apart() -> None:
    body = b'<rss version="2.0"><channel><item/> <ITEM a="1"></ITEM> <item ><title>x</title></item></channel></rss>'
    assert SOURCE.excerpts(payload(body), [0, 2]) == {0: b"<item/>", 2: b"<item ><title>x</title></item>"}
    prefixed = b'<a:feed xmlns:a="http://www.w3.org/2005/Atom"><a:entry><a:id>1</a:id></a:entry></a:feed>'
    assert SOURCE.excerpts(payload(prefixed), [0]) == {0: b"<a:entry><a:id>1</a:id></a:entry>"}


def test_an_excerpt_that_cannot_be_found_in_the_bytes_is_json() -> None:
    body = '<?xml version="1.0" encoding="utf-16"?><rss version="2.0"><channel><item><title>\u00fc</title></item></channel></rss>'.encode(
        "utf-16"
    )
    assert json.loads(SOURCE.excerpts(payload(body), [0])[0])["title"] == "\u00fc"


def test_a_feed_is_asked_for_once_and_gives_a_payload_with_its_validators() -> None:
    upstream = Upstream({FIRST: feed("https://www.example.com/rss", etag='"1"', last_modified="Fri, 02 Oct 2026 10:00:00 GMT")})
    (loaded,), error = run(upstream, (FIRST, FIRST))
    assert error is None
    ((url, headers, redirects),) = upstream.requests
    assert (url, set(headers), redirects) == (FIRST, {"Accept"}, True)
    assert loaded.url == FIRST
    assert loaded.body == item("<title>x</title>")
    assert loaded.meta == {"content_type": "application/rss+xml", "url": "https://www.example.com/rss"}
    assert loaded.cursor == {"feeds": {FIRST: {"etag": '"1"', "last_modified": "Fri, 02 Oct 2026 10:00:00 GMT"}}}
    assert (loaded.done, loaded.total, loaded.fetched_at.tzinfo) == (1, 1, UTC)


def test_validators_are_sent_back_and_a_304_gives_no_payload() -> None:
    upstream = Upstream({FIRST: Response(304, b"", {}, FIRST)})
    assert run(upstream, (FIRST,), {"feeds": {FIRST: {"etag": '"1"', "last_modified": "then"}}}) == ([], None)
    headers = upstream.requests[0][1]
    assert (headers["If-None-Match"], headers["If-Modified-Since"]) == ('"1"', "then")


def test_validators_are_kept_per_feed_and_only_with_the_payload_they_belong_to() -> None:
    cursor = {"feeds": {FIRST: {"etag": "old 1"}, SECOND: {"etag": "old 2"}, "https://gone.example.com": {"etag": "x"}}}
    before = json.dumps(cursor)
    upstream = Upstream({FIRST: feed(FIRST, etag="new 1"), SECOND: Response(304, b"", {}, SECOND), THIRD: feed(THIRD, etag="new 3")})
    (one, two), error = run(upstream, (FIRST, SECOND, THIRD), cursor)
    assert one.cursor == {"feeds": {FIRST: {"etag": "new 1"}, SECOND: {"etag": "old 2"}}}
    assert two.cursor == {"feeds": {FIRST: {"etag": "new 1"}, SECOND: {"etag": "old 2"}, THIRD: {"etag": "new 3"}}}
    assert [(one.done, one.total), (two.done, two.total)] == [(1, 3), (3, 3)]
    assert error is None
    assert json.dumps(cursor) == before


def test_validators_that_a_feed_no_longer_sends_are_forgotten() -> None:
    (loaded,), _ = run(Upstream({FIRST: feed(FIRST)}), (FIRST,), {"feeds": {FIRST: {"etag": "old"}}})
    assert loaded.cursor == {"feeds": {FIRST: {}}}


def test_no_validator_of_a_torn_feed_is_kept() -> None:
    torn = feed(FIRST, (PAYLOADS / "ill_formed.xml").read_bytes(), etag="new", content_length="314")
    (loaded,), error = run(Upstream({FIRST: torn}), (FIRST,))
    assert (loaded.cursor, error) == ({"feeds": {FIRST: {}}}, None)


@pytest.mark.parametrize("etag", ["a\0b", "\u00fc", "e" * 1001, "a\r\nHost: b"])
def test_a_validator_that_cannot_be_stored_and_sent_back_is_left_out(etag: str) -> None:
    (loaded,), _ = run(Upstream({FIRST: feed(FIRST, etag=etag)}), (FIRST,))
    assert loaded.cursor == {"feeds": {FIRST: {}}}


def test_a_failing_feed_does_not_stop_the_others_and_is_told_at_the_end() -> None:
    page = (PAYLOADS / "block_page.html").read_bytes()
    upstream = Upstream(
        {FIRST: FetchError("answered 403", permanent=True, status=403), SECOND: feed(SECOND, page, etag="x"), THIRD: feed(THIRD)}
    )
    loaded, error = run(upstream, (FIRST, SECOND, THIRD), {"feeds": {SECOND: {"etag": "old"}}})
    assert [one.url for one in loaded] == [THIRD]
    assert loaded[0].cursor == {"feeds": {SECOND: {"etag": "old"}, THIRD: {}}}
    assert error is not None
    assert not error.permanent
    assert str(error).startswith(f"2 of 3 feeds failed: {FIRST}: answered 403; {SECOND}: not a feed (application/rss+xml)")


def test_nothing_of_a_block_page_is_kept() -> None:
    loaded, error = run(Upstream({FIRST: feed(FIRST, b"<html></html>", etag="x")}), (FIRST,))
    assert loaded == []
    assert error is not None
    assert str(error).startswith(f"{FIRST}: not a feed")


def test_the_limit_is_the_one_set_or_our_courtesy() -> None:
    assert SOURCE.rate_limit(Settings()) == RateLimit(60, 60)
    assert SOURCE.rate_limit(Settings(rss_rate_limit=RateLimit(5, 10))) == RateLimit(5, 10)


def test_it_reads_from_every_feed_once() -> None:
    assert SOURCE.reads_from(Settings(rss_feed_urls=(SECOND, FIRST, SECOND))) == [SECOND, FIRST]


@pytest.mark.parametrize(
    ("name", "count"),
    [("coindesk_trimmed_2026-08-15.xml", 2), ("cointelegraph_trimmed_2026-08-15.xml", 2), ("cointelegraph_republished_2026-02-15.xml", 10)],
)
def test_every_entry_of_the_crypto_feeds_is_an_article_with_an_id_a_link_and_a_time(corpus: Path, name: str, count: int) -> None:
    found = rows((corpus / "rss" / "crypto" / name).read_bytes())
    assert len({row.external_id for row in found}) == count
    assert all(row.url and row.source_updated_at and row.name != row.url for row in found)


def test_every_file_of_the_corpus_is_read_or_refused_and_every_entry_loaded_or_given_a_reason(corpus: Path) -> None:
    counts = {"files": 0, "refused": 0, "loaded": 0, "rejected": 0, "crashed": 0, "unexplained": 0}
    for path in sorted(file for file in (corpus / "rss").rglob("*") if file.is_file()):
        counts["files"] += 1
        try:
            found = values(path.read_bytes(), content_type="")
        except SourceError as error:
            counts["refused" if str(error).startswith(("not a feed", "feed declares xml entities")) else "crashed"] += 1
            continue
        excerpts = SOURCE.excerpts(payload(path.read_bytes(), content_type=""), range(len(found)))
        assert all(excerpts[position] for position in range(len(found)))
        for value in found:
            counts[outcome(value)] += 1
    assert counts == {"files": 349, "refused": 13, "loaded": 264, "rejected": 129, "crashed": 0, "unexplained": 0}


def outcome(value: dict[str, Any]) -> str:
    try:
        row = SOURCE.normalize(Entry.model_validate(value))
    except ValidationError as refused:
        return "rejected" if "no guid, link or title" in str(refused) else "unexplained"
    assert row.external_id
    assert row.name
    assert row.category
    return "loaded"
