"""The faults of an upstream, each with what it does on the wire and what has to come of it."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from tests.trials.hostile import ARTICLE, Answer, Ask, feed, head, markets, pour, reset, say, tickers

GOOD = json.dumps(tickers(100)).encode()
ZIP = {"Content_Encoding": "gzip"}
FEED = feed(ARTICLE)
XML = "application/rss+xml"
RATE = json.dumps({"status": {"error_code": 429, "error_message": "You've exceeded the Rate Limit."}})


@dataclass(frozen=True)
class Fault:
    """What an upstream does and what has to come of it: status and exit, a text in the message, requests, payloads stored, articles or
    assets served; `seed` answers an earlier run. `quick`: cheap enough for the test suite.
    """

    id: str
    label: str
    answer: Answer
    told: str = ""
    source: str = "coinpaprika"
    status: str = "failed"
    requests: int | tuple[int, int] = 1
    stored: int = 0
    served: int = 0
    seed: Answer | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    tls: str = ""
    quick: bool = False
    sql: str = ""


def always(*told: Any, **more: Any) -> Answer:
    return lambda ask: say(ask, *told, **more)


def refuse(status: str, body: str = "", **headers: str) -> Answer:
    return lambda ask: say(ask, body, status, **headers)


def then(first: int, bad: Answer, good: Answer) -> Answer:
    """Answer badly so many times, then well."""
    return lambda ask: (bad if ask.number <= first else good)(ask)


def raw(sent: bytes) -> Answer:
    return lambda ask: ask.peer.sendall(sent)


def on_page(**answers: Answer) -> Answer:
    return lambda ask: answers.get(f"page{ask.page}", always("[]"))(ask)


def date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def shifting(ask: Ask) -> None:
    """Between the first two pages a coin of the second climbs to the top."""
    names = [f"m{n}" for n in range(600)]
    if ask.number > 1:
        names.insert(0, names.pop(400))
    say(ask, markets(names[(ask.page - 1) * ask.size : ask.page * ask.size]))


def leaving(ask: Ask) -> None:
    """Between the first two pages coins of the first leave, and all behind them slide up; no rank tells of it."""
    names = [f"m{n}" for n in range(640)][0 if ask.number == 1 else 40 :]
    say(ask, markets(names[(ask.page - 1) * ask.size : ask.page * ask.size]))


def silence(ask: Ask) -> None:
    time.sleep(45)


def redirect(target: str) -> Answer:
    return refuse("302 Found", Location=target)


def chain(ask: Ask) -> None:
    say(ask, status="302 Found", Location=f"/feed/{ask.number}")


def protected(ask: Ask) -> None:
    """A feed behind a password that moved to another host, where the password must not show."""
    if ask.path != "/x":
        say(ask, status="302 Found", Location=f"http://127.0.0.1:{ask.peer.getsockname()[1]}/x")
    elif "authorization" in ask.head.lower():
        say(ask, status="500 Told")
    else:
        say(ask, FEED, kind=XML)


def recovering(ask: Ask) -> None:
    """Three kinds of trouble, then all is well."""
    if ask.number < 4:
        say(ask, status=f"{(500, 502, 503)[ask.number - 1]} No")
    else:
        say(ask, GOOD)


def cut_after(sent: bytes) -> Answer:
    return lambda ask: reset(ask, sent)


def conditional(ask: Ask) -> None:
    if 'if-none-match: "1"' in ask.head.lower():
        say(ask, status="304 Not Modified", ETag='"1"')
    else:
        say(ask, FEED, kind=XML, ETag='"1"')


def with_value(text: str) -> Answer:
    """A list whose fourth record has a price that is no price."""
    return always(GOOD.replace(b'"price": 1.5', b'"price": ' + text.encode(), 4).replace(b'"price": ' + text.encode(), b'"price": 1.5', 3))


def with_row(**changed: Any) -> Answer:
    return always(json.dumps([*tickers(100), tickers(1)[0] | {"id": "odd"} | changed], ensure_ascii=False))


def entity(declared: str) -> Answer:
    return always(feed("<item><title>&a;</title></item>", f"<!DOCTYPE rss [{declared}]>"), kind=XML)


def packed(size: int) -> bytes:
    """A gzip body of one member that inflates to so many blanks."""
    squeeze, parts = zlib.compressobj(9, wbits=31), list[bytes]()
    for _ in range(size >> 20):
        parts.append(squeeze.compress(b" " * (1 << 20)))
    return b"".join([*parts, squeeze.flush()])


Build = Callable[[], list[Fault]]
LAUGHS = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))


def network() -> list[Fault]:
    """U1 to U7: what the network and the server do."""
    broke, slow = "broke off in the middle of the answer", "try again after 20"
    storms: list[tuple[str, int | tuple[int, int]]] = [
        ("2", 4),
        (date(30), (1, 4)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 4),
        ("1000000000", 1),
        ("abc", 4),
        ("", 4),
    ]
    found = [
        Fault("U1", f"429 for ever, Retry-After {v or 'absent'!r}", refuse("429 No", RATE, Retry_After=v), slow, requests=n)
        for v, n in storms
    ]
    found += [
        Fault(
            "U1",
            "429 twice with Retry-After 2, then well",
            then(2, refuse("429 No", RATE, Retry_After="2"), always(GOOD)),
            "",
            status="success",
            requests=3,
            stored=1,
            served=100,
        ),
        Fault(
            "U2",
            "500, 502, 503, then well",
            recovering,
            "",
            status="success",
            requests=4,
            stored=1,
            served=100,
        ),
        Fault("U2", "504 for ever", refuse("504 No"), "answered 504, 4 tries: try again after 20", requests=4),
    ]
    found += [
        Fault("U3", str(code), refuse(f"{code} No", '{"error": "no"}'), f"answered {code} (no): check the", quick=code == 401)
        for code in (400, 401, 402, 403, 404, 410, 451)
    ]
    found[-5] = Fault(
        "U3", "402, plan", refuse("402 No", '{"error": "this is not allowed in this plan"}'), "check the API key and the plan"
    )
    found += [
        Fault("U3", "402, throttled", refuse("402 No", '{"error": "too many requests"}'), "4 tries: try again after 20", requests=4),
        Fault(
            "U3",
            "400, Pro key on the public host",
            refuse("400 No", '{"error_code": 10010, "status": {"error_message": "change URL"}}'),
            "the key is a Pro key: set COINGECKO_BASE_URL",
            source="coingecko",
            quick=True,
        ),
    ]
    whole = head(Content_Type="application/json", Content_Length=str(len(GOOD)))
    cuts = {"nothing": b"", "the head": whole, "half": whole + GOOD[: len(GOOD) // 2], "all but a byte": whole + GOOD[:-1]}
    found += [Fault("U4", f"reset after {name}", cut_after(sent), broke, requests=4) for name, sent in cuts.items()]
    found += [
        Fault("U4", "closed early, length larger", raw(whole + GOOD[:500]), broke, requests=4),
        Fault("U4", "chunks without an end", raw(head(Transfer_Encoding="chunked") + b"5\r\n[{},{\r\n"), broke, requests=4),
        Fault("U4", "cut, no length", raw(head(Content_Type="application/json") + GOOD[:-1]), "did not answer with JSON", quick=True),
        Fault("U4", "feed cut, no length", raw(head(Content_Type=XML) + FEED[:-30]), "feed was cut short", source="rss", quick=True),
        Fault(
            "U4",
            "reset once, then well",
            then(1, lambda ask: reset(ask, whole + GOOD[:500]), always(GOOD)),
            status="success",
            requests=2,
            stored=1,
            served=100,
            quick=True,
        ),
        Fault("U5", "1 byte a second", lambda ask: pour(ask, whole, b" ", 1.0), "sends less than 1024 bytes a second", requests=4),
        Fault("U5", "head drips", lambda ask: pour(ask, b"HTTP/1.1 200 OK\r\nX-A: ", b"x", 0.5), "was not read in time", requests=4),
        Fault("U5", "silence", silence, "did not answer in time", requests=4),
        Fault("U5", "body without an end", lambda ask: pour(ask, head(), b" " * 65536), "answered with more than 32 MiB"),
    ]
    zipped = gzip.compress(GOOD)
    bad = {
        "cut": (zipped[:-20], "cut short", 4),
        "wrong checksum": (zipped[:-8] + bytes(8), "broken gzip body", 4),
        "not gzip": (GOOD, "broken gzip", 4),
        "zipped twice": (gzip.compress(zipped), "did not answer with JSON", 1),
    }
    found += [Fault("U6", f"gzip: {name}", always(body, **ZIP), text, requests=count) for name, (body, text, count) in bad.items()]
    found += [
        Fault("U6", "brotli unasked", always(GOOD, Content_Encoding="br"), "an encoding we did not ask for", quick=True),
        Fault(
            "U7", "gzip bomb, 2 GB in members", lambda ask: pour(ask, head(**ZIP), gzip.compress(b" " * 1_000_000, 9)), "more than 32 MiB"
        ),
        Fault("U7", "gzip bomb, one member", always(packed(512 << 20), **ZIP), "answered with more than 32 MiB"),
    ]
    return found


def bodies() -> list[Fault]:
    """U8, U9: what is no list, and what leads elsewhere."""
    seed = always(GOOD)
    kept: dict[str, Any] = {"seed": seed, "served": 100}
    found = [
        Fault(
            "U8",
            "an HTML page",
            always("<html>Just a moment", kind="text/html"),
            "answered with text/html instead of JSON",
            quick=True,
            **kept,
        ),
        Fault("U8", "an HTML page as JSON", always("<html>"), "did not answer with JSON", **kept),
        Fault("U8", "an empty body", always(""), "an empty body", **kept),
        Fault("U8", "null", always("null"), "did not answer with a list", **kept),
        Fault("U8", "an error in a 200", always('{"error": "x"}'), "did not answer with a list", **kept),
        Fault("U8", "[]", always("[]"), "has 0 records, usually 100", status="refused", stored=1, **kept),
        Fault("U8", "{}", always("{}"), "did not answer with a list", **kept),
        Fault("U8", "204", refuse("204 No"), "answered 204: check the address", **kept),
        Fault("U8", "304 unasked", refuse("304 No"), "answered 304: check the address", source="coingecko"),
        Fault("U9", "redirect of an API", redirect("/other"), "put the final address into the settings"),
        Fault("U9", "20 redirects", chain, "put the final address", source="rss", requests=4, quick=True),
        Fault(
            "U9",
            "password in the address, to another host",
            protected,
            source="rss",
            status="success",
            requests=2,
            stored=1,
            served=1,
            host="user:CANARY@localhost",
            environ={"ETL_ALLOWED_HOSTS": "127.0.0.1"},
        ),
    ]
    targets = (
        "http://127.0.0.1/",
        "http://169.254.169.254/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
    )
    found += [
        Fault("U9", f"to {target}", redirect(target), "which is inside this network", source="rss", host="localhost") for target in targets
    ]
    found += [
        Fault("U9", f"to {target}", redirect(target), "which is not http or https", source="rss")
        for target in ("file:///etc/passwd", "gopher://h/")
    ]
    return found


def records() -> list[Fault]:
    """U10 to U18: what the bytes say."""
    good: dict[str, Any] = {"status": "success", "stored": 1, "served": 100}
    odd = good | {"status": "partial", "served": 99}
    rows = good | {"status": "partial"}
    found = [
        Fault("U10", "nested 100,000 deep", always("[" * 100_000), "did not answer with JSON"),
        Fault("U10", "3 million empty objects", always(b"[" + b"{}," * 3_000_000 + b"{}]"), "values, at most"),
        Fault("U10", "trailing garbage", always(GOOD + b"x"), "did not answer with JSON"),
        Fault("U10", "UTF-16", always(GOOD.decode().encode("utf-16")), "did not answer with JSON"),
        Fault("U10", "byte order mark", always(b"\xef\xbb\xbf" + GOOD), **good),
        Fault("U10", "a text of 10 MB", with_row(name="x" * 10_000_000), **rows),
        Fault("U10", "a key twice", always(GOOD.replace(b'"rank": 1', b'"rank": 9, "rank": 1', 1)), **good),
        Fault("U11", "NUL in a name", with_row(name="a\0b"), **rows),
        Fault("U11", "lone surrogate", always(GOOD.replace(b"Coin 5", b"\\ud800", 1)), **odd),
        Fault("U11", "symbol of 10 kB", with_row(symbol="x" * 10_000), **rows),
        Fault("U11", "NUL in an id", with_row(id="\0"), **rows),
        Fault(
            "U12", "an id twice on a page", always(json.dumps([*tickers(100), *tickers(1, last_updated="2026-01-03T00:00:00Z")])), **good
        ),
        Fault(
            "U12",
            "an id on two pages",
            on_page(page1=always(markets([f"m{n}" for n in range(250)])), page2=always(markets(["m249", "x"]))),
            source="coingecko",
            status="success",
            requests=4,
            stored=2,
            served=251,
        ),
        Fault("U13", "a coin climbs while it is paged", shifting, source="coingecko", status="success", requests=6, stored=4, served=600),
        Fault("U13", "40 coins leave while it is paged", leaving, source="coingecko", status="success", requests=5, stored=4, served=640),
        Fault(
            "U15",
            "the list shrinks to 1 %",
            always(json.dumps(tickers(1))),
            "has 1 records, usually 100",
            status="refused",
            stored=1,
            served=100,
            seed=always(GOOD),
        ),
        Fault(
            "U15",
            "to 49 %",
            always(json.dumps(tickers(49))),
            "has 49 records, usually 100",
            status="refused",
            stored=1,
            served=100,
            seed=always(GOOD),
        ),
        Fault("U15", "to 51 %", always(json.dumps(tickers(51))), status="success", stored=1, served=100, seed=always(GOOD)),
        Fault(
            "U16",
            "times go backwards",
            always(json.dumps(tickers(100, last_updated="2025-01-01T00:00:00Z", symbol="OLD"))),
            status="success",
            stored=1,
            served=100,
            seed=always(GOOD),
            sql="select 1 from unified_data where symbol = 'OLD'",
        ),
        Fault(
            "U17",
            "a price of 0, one of 1e12, one below 0",
            always(GOOD.replace(b"1.5", b"0", 1).replace(b"1.5", b"1000000000000", 1).replace(b"1.5", b"-1", 1)),
            **odd,
        ),
        Fault(
            "U18",
            "CoinGecko's list from CoinPaprika",
            always(markets([f"m{n}" for n in range(100)])),
            "are invalid",
            status="refused",
            stored=1,
        ),
    ]
    numbers = ("NaN", "Infinity", "1e400", "1e-400", "9" * 5000)
    found += [Fault("U10", f"a price of {text[:9]}", with_value(text), **odd, quick=text == "NaN") for text in numbers]
    return found


def secure() -> list[Fault]:
    """U19: certificates that are not to be trusted."""
    told = "cannot be trusted: its certificate is not valid"
    return [
        Fault("U19", f"TLS: {kind}", always(GOOD), told, tls=kind, host="localhost", requests=0)
        for kind in ("self-signed", "expired", "wrong host")
    ]


def feeds() -> list[Fault]:
    """X1 to X10: what a feed can be."""
    rss: dict[str, Any] = {"source": "rss"}
    one: dict[str, Any] = rss | {"status": "success", "stored": 1, "served": 1}
    items = "".join(f"<item><title>T</title><guid>g{n}</guid></item>" for n in range(170_000))
    dates = "".join(
        f"<item><guid>d{n}</guid><pubDate>{text}</pubDate></item>"
        for n, text in enumerate(("Wed, 99 Foo 2026", "1 Jan 99999", "", "1 Jan 2099"))
    )
    return [
        Fault("X1", "external entity", entity('<!ENTITY a SYSTEM "file:///etc/passwd">'), "declares xml entities", **rss),
        Fault("X2", "billion laughs", entity('<!ENTITY a "lol">' + LAUGHS), "declares xml entities", **rss, quick=True),
        Fault("X3", "quadratic blow-up", entity(f'<!ENTITY a "{"x" * 100_000}">'), "declares xml entities", **rss),
        Fault("X4", "50,000 nested tags in a title", always(feed(f"<item><title>{'<b>' * 50_000}</title></item>"), kind=XML), **one),
        Fault("X4", "8 MB of small items", always(feed(items), kind=XML), "feed takes more than", **rss),
        Fault("X4", "1.2 million empty items", always(feed("<item/>" * 1_200_000), kind=XML), "feed takes more than", **rss),
        Fault("X4", "12 MB", always(feed(" " * 12_000_000), kind=XML), "at most 10485760 are read", **rss),
        Fault("X5", "the name of a local file", always("/etc/passwd", kind=XML), "not a feed", **rss),
        Fault(
            "X6",
            "a lone surrogate",
            always(feed("<item><title>&#xD800;</title></item>"), kind=XML),
            "cannot be parsed (UnicodeEncodeError)",
            **rss,
        ),
        Fault("X7", "an HTML page", always("<html><body>Just a moment", kind="text/html"), "not a feed (text/html)", **rss, quick=True),
        Fault(
            "X8",
            "guid missing, given twice",
            always(feed(ARTICLE * 2 + "<item><title>no guid</title></item>"), kind=XML),
            **(one | {"served": 2}),
        ),
        Fault("X9", "304 after a good run", conditional, seed=conditional, source="rss", status="success", served=1),
        Fault("X10", "dates that are none", always(feed(dates), kind=XML), **(one | {"served": 4})),
    ]


def all_faults() -> list[Fault]:
    """Every fault."""
    return [*network(), *bodies(), *records(), *secure(), *feeds()]
