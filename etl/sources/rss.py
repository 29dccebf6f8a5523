"""The RSS source: the articles of every configured feed (RSS, Atom, RDF), one feed a payload. Pure but for `extract`."""

from __future__ import annotations

import calendar
import hashlib
import html
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib import import_module
from typing import Annotated, Any, Self
from urllib.parse import urljoin
from xml.sax import SAXException

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, model_validator

from etl.errors import SourceError, one_of_many
from etl.source import Cursor, Fetch, Payload, Response, Row, Shape, Source
from shared.addresses import named, shown
from shared.confined import Bounds, Failed, Overrun, confined
from shared.excerpts import cut_elements
from shared.model import RateLimit
from shared.settings import Settings

MAX_BODY, MAX_ID_BYTES, MAX_NAME, MAX_LABEL, MAX_MARKUP = 10 * 1024 * 1024, 1000, 2000, 200, 20_000
ACCEPT = "application/rss+xml, application/atom+xml, application/rdf+xml;q=0.9, application/xml;q=0.8, text/xml;q=0.8, */*;q=0.1"
FETCHED, STORED = Bounds(cpu=5, seconds=45, memory=96 << 20), Bounds(cpu=20, seconds=50, memory=128 << 20)
"""What the parser may use of a feed; of a stored one more, so that what was once accepted is read again on a slower day."""
CONDITIONS = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
PARTING = re.compile(r"(?=</?[a-z])(?!</?(?:abbr|code|em|font|mark|small|span|strong|su[bp]|[abisu])\b)", re.I)
UNFIT = re.compile(r"[^ -~]|.{1001}")  # refusal: a header that cannot be stored and sent back counts as missing
UNSEEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.I | re.S)
PROLOG = re.compile(rb"(?:<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)|<(?!\w|\?|!--)|[^<]++)*+", re.S)
END, MARGIN = re.compile(rb"</(?:[\w.-]+:)?(?:rss|feed|rdf)\s*>", re.I), 4096


def refuse_unstorable(value: str) -> str:
    """Pass text on. Raises ValueError when Postgres cannot store it."""
    if re.search("[\0\ud800-\udfff]", value):
        raise ValueError("holds a NUL character or a lone surrogate, which Postgres cannot store")
    return value


Text = Annotated[str, AfterValidator(refuse_unstorable)]


class Entry(BaseModel):
    """One article as a feed tells it: addresses as sent, text without markup, times in UTC."""

    model_config = ConfigDict(frozen=True)
    guid: Text | None = None
    link: Text | None = None
    title: Text | None = None
    summary: Text | None = None
    published: AwareDatetime | None = None
    updated: AwareDatetime | None = None
    categories: tuple[Text, ...] = ()
    author: Text | None = None

    @model_validator(mode="after")
    def require_identity(self) -> Self:
        """Refuse an entry that no later one could be recognised by."""
        if not (self.guid or self.link or self.title):
            raise ValueError("no guid, link or title: nothing tells this entry from another")
        return self


def to_text(markup: str | None) -> str | None:
    """Strip markup, decode entities, collapse blanks; looks at the first MAX_MARKUP characters only."""
    seen = PARTING.sub(" ", UNSEEN.sub(" ", (markup or "")[:MAX_MARKUP]))
    reader, parts = HTMLParser(), list[str]()
    reader.handle_data = parts.append  # type: ignore[method-assign, assignment]
    # quirk: html.parser takes quadratic time over tags that never end and raises on `<![`: those are text
    reader.feed(re.sub(r"<(?=!\[|[^<>]*(?:<|\Z))", "&lt;", seen))
    reader.close()
    # quirk: feeds served through proxies escape twice (`&amp;amp;`)
    return " ".join(html.unescape("".join(parts)).split()) or None


def to_time(stamp: Any) -> str | None:
    """Turn feedparser's UTC struct into ISO text; None for a year that no article can mean."""
    return datetime.fromtimestamp(calendar.timegm(stamp), UTC).isoformat() if stamp and 1970 <= stamp[0] <= 2100 else None


def to_link(link: str, guid: str | None, base: str) -> str | None:
    """Give an absolute link as sent and complete a relative one; a bare guid that feedparser took for a link is none."""
    if not link or re.match(r"[a-z][a-z0-9+.-]*:", link, re.I):
        return link or None
    return None if link == guid else f"{base.split(':')[0]}:{link}" if link.startswith("//") else urljoin(base, link)


def read_entry(entry: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Turn feedparser's entry into a plain value, as JSON would hold it."""
    sent = dict(entry.items())  # quirk: feedparser's own lookup answers `updated` with `published`
    labels = (to_text(tag.get("term")) for tag in sent.get("tags", ()))
    return {
        "guid": sent.get("id") or None,
        "link": to_link(sent.get("link") or "", sent.get("id"), base),
        **{field: to_text(sent.get(field)) for field in ("title", "summary", "author")},
        **{field: to_time(sent.get(f"{field}_parsed")) for field in ("published", "updated")},
        "categories": list(dict.fromkeys(label for label in labels if label)),
    }


latest: dict[tuple[bytes, str, str], tuple[list[dict[str, Any]], bool]] = {}
"""The feed read last, for `parse` comes right after `extract`."""


def read_feed(body: bytes, content_type: str, base: str, bounds: Bounds = STORED) -> tuple[list[dict[str, Any]], bool]:
    """Read a feed's entries, and whether its XML is whole. Raises SourceError when it is no feed, or one not to be trusted."""
    if found := latest.get((body, content_type, base)):
        return found
    if len(body) > MAX_BODY:
        raise SourceError(f"feed has {len(body)} bytes, at most {MAX_BODY} are read: take a shorter feed in RSS_FEED_URLS", permanent=True)
    # refusal: feedparser expands declared entities without limit (60 kB become 150 MB); the NULs are those of utf-16
    prolog = PROLOG.match(body.replace(b"\0", b""))
    if prolog and b"<!ENTITY" in prolog[0].upper():
        raise SourceError("feed declares xml entities, which can expand without limit: remove it from RSS_FEED_URLS", permanent=True)
    import_module("feedparser")  # with the first feed, for a run without any starts sooner; and once, not in every child
    try:
        # refusal: feedparser takes half a minute over nested tags or millions of empty items, in half a gigabyte
        entries, version, whole = confined(lambda: parse_feed(body, content_type, base), bounds)
    except Overrun as error:
        raise SourceError(f"feed takes more than {error} to parse: take a simpler feed in RSS_FEED_URLS", permanent=True) from error
    except Failed as error:
        raise SourceError(f"feed cannot be parsed ({error}): look at it in a feed validator") from error
    if not version:
        raise SourceError(f"not a feed ({content_type or 'no content type'}): open it in a browser, correct RSS_FEED_URLS or try later")
    latest.clear()
    latest[body, content_type, base] = entries, whole
    return entries, whole


def parse_feed(body: bytes, content_type: str, base: str) -> tuple[list[dict[str, Any]], bool, bool]:
    """Parse in the child: the entries, whether it is a feed at all, whether its XML is whole."""
    headers = {"content-type": content_type} if content_type else {}
    # refusal: feedparser takes text, and bytes too, for the name of a local file and opens it; a stream it can only read
    feed = import_module("feedparser").parse(io.BytesIO(body), response_headers=headers, resolve_relative_uris=False, sanitize_html=False)
    entries = [read_entry(entry, base) for entry in feed["entries"]]
    return entries, bool(feed.get("version")), not isinstance(feed.get("bozo_exception"), SAXException)


def parse(payload: Payload) -> Iterator[dict[str, Any]]:
    """Yield one plain value for each entry, in the feed's order and with its repetitions. Raises SourceError."""
    entries, _ = read_feed(payload.body, str(payload.meta.get("content_type", "")), str(payload.meta.get("url", payload.url)))
    yield from (dict(entry) for entry in entries)


def excerpts(payload: Payload, positions: Collection[int]) -> dict[int, bytes]:
    """Give elements as sent, each up to its end tag or the next element; as JSON when they cannot be found so (UTF-16, foreign names)."""
    entries = list(parse(payload))
    found = cut_elements(payload.body)
    if len(found) != len(entries):
        return {position: json.dumps(entries[position]).encode() for position in positions}
    return {position: found[position] for position in positions}


def reads_from(settings: Settings) -> list[str]:
    """List the feeds, each once, without the keys that an address may hold."""
    return [named(url) for url in dict.fromkeys(settings.rss_feed_urls)]


def extract(settings: Settings, fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
    """Fetch every feed that changed. Raises SourceError at the end, naming the feeds that failed."""
    urls = {named(url): url for url in settings.rss_feed_urls}
    feeds = {name: known for name, known in cursor.get("feeds", {}).items() if name in urls}
    failures: list[tuple[str, SourceError]] = []
    for done, (name, url) in enumerate(urls.items(), 1):
        conditions = {CONDITIONS[key]: value for key, value in feeds.get(name, {}).items() if value}
        try:
            response = fetch(url, headers={"Accept": ACCEPT, **conditions}, follow_redirects=True)
            if response.status == 304:
                continue
            headers = {key: value for key, value in response.headers.items() if UNFIT.search(value) is None}
            meta = {"content_type": headers.get("content-type", ""), "url": shown(response.url)}
            _, whole = read_feed(response.body, meta["content_type"], meta["url"], FETCHED)
            require_end(response)
        except SourceError as error:
            failures.append((name, error))
            continue
        validators = {key: headers.get(key.replace("_", "-")) for key in CONDITIONS}
        # refusal: no validator of broken xml is kept, or a page cut short would answer 304 until it changes
        feeds = {**feeds, name: {key: value for key, value in validators.items() if value and whole}}
        yield Payload(response.body, name, {"feeds": feeds}, datetime.now(UTC), meta, done, len(urls))
    if failures:
        raise one_of_many("feeds", len(urls), failures)


def require_end(response: Response) -> None:
    """Refuse a feed whose end neither its XML nor HTTP shows: it was cut. Raises SourceError."""
    counted = any(name in response.headers for name in ("content-length", "content-encoding", "transfer-encoding"))
    if not counted and END.search(response.body[-MARGIN:].replace(b"\0", b"")) is None:
        raise SourceError("feed was cut short on its way: try again later")


def normalize(entry: Entry) -> Row:
    """Turn an entry into an article; an evergreen guid sent again with a later date is an update. An id too long to index is hashed."""
    given = entry.guid or entry.link
    told = given or f"{entry.title}{entry.published.isoformat() if entry.published else ''}"
    external_id = told if given and len(told.encode()) <= MAX_ID_BYTES else hashlib.sha256(told.encode()).hexdigest()
    labels = list(dict.fromkeys(filter(None, (label[:MAX_LABEL].strip() for label in entry.categories))))
    tags = "{" + ",".join('"' + re.sub(r'(["\\])', r"\\\1", label) + '"' for label in labels) + "}" if labels else None
    name = (entry.title or entry.link or external_id)[:MAX_NAME].strip()
    url = entry.link if entry.link and entry.link.lower().startswith(("http://", "https://")) else None
    latest = max((time for time in (entry.published, entry.updated) if time), default=None)
    return Row("article", external_id, None, name, (labels or ["uncategorized"])[0], None, None, None, None, None, url, tags, latest)


SOURCE = Source(
    name="rss",
    type="rss",
    record=Entry,
    extract=extract,
    parse=parse,
    normalize=normalize,
    identify=lambda entry: entry["guid"] or entry["link"],
    excerpts=excerpts,
    reads_from=reads_from,
    rate_limit=lambda settings: settings.rss_rate_limit or RateLimit(60, 60),  # our own courtesy: publishers state none
    shape=Shape(stream=lambda payload: payload.url),
)
