"""What is done to payloads: single bytes, poison where a value stands, and the structure of JSON lists, CSV text and feeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

Mutator = Callable[[Random, bytes], bytes]

POISON: list[bytes] = [
    *rb"""\u0000 \ud800 \udfff\ud800 &#xD800; &#0; NaN Infinity -Infinity 1e400 -1e400 1e-400 1e99999999999999999999 -0 [ { [] {} {"\\\\",}
    "1_000" 1_000 1,5 "1,5" 1.234,56 $1 (1) 1e3 0x10 - N/A null true 5% " "" ' \ , ; | =cmd|'/C_calc'!A0 @SUM(1) +1 \N \. \" -- # sep=; EUR
    <![CDATA[ ]]> <!-- --> <![ <!ENTITY <item> </item> < > & &x; <?xml?> 0000-00-00 2024-02-30T25:61:61Z 99999-01-01 31/12/2024 infinity
    9999-12-31T23:59:59-23:59 1111111111111111111 btc/usd BTC-EUR TOTAL http://[ javascript:x {a,b ['a""".split(),
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xc2", b"\xef\xbb\xbf", b"\x1f\x8b", b"\r", b"\n", b"\r\n", b"\t", b"\x0b", b"\x1a", b"1 000"),
    *(b"9" * 5000, b"0." + b"1" * 5000, b"x" * 10_000, b"[" * 500 + b"]" * 500, b'{"a":' * 500 + b"1" + b"}" * 500, b"<b>" * 500),
    *"\u0661\u0662 \u0967\u0968 \uff11\uff12 \xb2 \u202e \u200b \u2028x e\u0301 \U0001f4a9 \u22125 \u0130 99\xa0000".encode().split(b" "),
    *(b"&amp;" * 500, b"99 Foo 2024", b"<!ENTITY x 'y'>", "\u2029".encode(), "\x85".encode(), "\xa0".encode()),
]
JSON_POISON: list[bytes] = [
    *rb"""NaN Infinity -Infinity 1e400 1e-400 1e99999999999999999999 -0 -1 0 1.0 2147483648 1e9 1e40 9e39 1700000000 [] {} null true "" "\""
    "\u0000" "\ud800" "\udfff\ud800" "a\u202eb" "e\u0301" "\ud83d\udca9" "1_000" "1,5" "24:00" "=cmd|x" "infinity" "1700000000" "\u0661"
    "9999-12-31T23:59:59-23:59" "0001-01-01" "2024-02-30" "2024-01-01T00:00:60Z" "2024-01-01T00:00:00+99:99" """.split(),
    *(b"9" * 5000, b"0." + b"1" * 5000, b'"' + b"x" * 10_000 + b'"', b"[" * 500 + b"]" * 500, b'{"a":' * 500 + b"1" + b"}" * 500),
    *(b'" "', b'"\xff"', b'"\0"', '"\u2028"'.encode(), '"\u0967"'.encode(), b"1" + b"0" * 39 + b"." + b"5" * 60),
]
VALUE = re.compile(rb'(?<=[:,\[ ])(?:"[^"\\]*"|-?[0-9][0-9.eE+-]*|null)(?=\s*[,}\]])')
CELL = re.compile(rb'[^,;\t|\r\n"]+')
TEXT = re.compile(rb"(?<=>)[^<>]+(?=<)")
TAG = re.compile(rb"</?([\w:.-]+)[^<>]*>")
ITEM = re.compile(rb"<(item|entry)\b.*?</\1>", re.S)
OTHERS: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    " ",
    "x",
    "1.5",
    [],
    {},
    [[]],
    {"id": "x"},
    "\ud800",
    "a\0b",
    10**41,
    "a" * 501,
    "é" * 500,
    2**31,
]


def span(rng: Random, body: bytes, longest: int = 200) -> tuple[int, int]:
    """A random piece of a body."""
    start = rng.randrange(len(body) + 1)
    return start, min(len(body), start + rng.randint(0, rng.choice((1, 4, longest))))


def flip(rng: Random, body: bytes) -> bytes:
    """Flip one bit."""
    at = rng.randrange(len(body) or 1)
    return body[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in body[at : at + 1]) + body[at + 1 :]


def delete(rng: Random, body: bytes) -> bytes:
    """Leave a piece out."""
    start, end = span(rng, body)
    return body[:start] + body[end:]


def repeat(rng: Random, body: bytes) -> bytes:
    """Say a piece twice."""
    start, end = span(rng, body)
    return body[:end] + body[start:]


def truncate(rng: Random, body: bytes) -> bytes:
    """Stop in the middle."""
    return body[: rng.randrange(len(body) + 1)]


def poison(rng: Random, body: bytes) -> bytes:
    """Put poison anywhere."""
    at = rng.randrange(len(body) + 1)
    return body[:at] + rng.choice(POISON) + body[at:]


def exchange(rng: Random, body: bytes, pattern: re.Pattern[bytes], by: list[bytes]) -> bytes:
    """Put poison in the place of a match, or beside it."""
    found = pattern.search(body, rng.randrange(len(body) + 1)) or pattern.search(body)
    if not found:
        return body + rng.choice(by)
    kept = found[0] if pattern is not VALUE and rng.random() < 0.2 else b""
    return body[: found.start()] + kept + rng.choice(by) + body[found.end() :]


def poison_value(rng: Random, body: bytes) -> bytes:
    """Put poison that is JSON, or nearly, in the place of a value."""
    return exchange(rng, body, VALUE, JSON_POISON)


def poison_cell(rng: Random, body: bytes) -> bytes:
    """Put poison in the place of a cell."""
    return exchange(rng, body, CELL, POISON)


def poison_text(rng: Random, body: bytes) -> bytes:
    """Put poison in the place of an element's text."""
    return exchange(rng, body, TEXT, POISON)


def double_key(rng: Random, body: bytes) -> bytes:
    """Give an object a key twice."""
    key = rng.choice((b'"id":"twice",', b'"name":null,', b'"USD":{},', b'"price":-1,', b'"":0,'))
    return exchange(rng, body, re.compile(rb"\{"), [b"{" + key])


def reshape(rng: Random, body: bytes) -> bytes:
    """Drop, null, rename or retype a field, or drop, repeat, swap or replace a record; a body that is no list is left alone."""
    try:
        rows = json.loads(body)
        at, other = rng.randrange(len(rows)), rng.randrange(len(rows))
        choice = rng.choice(("drop", "rename", "retype", "retype", "null", "repeat", "swap", "remove", "replace"))
        if choice in ("drop", "rename", "retype", "null"):
            for row in rows if rng.random() < 0.1 else [rows[at]]:
                reshape_field(rng, row, choice)
        elif choice == "swap":
            rows[at], rows[other] = rows[other], rows[at]
        else:
            rows[at : at + (choice != "repeat")] = {"remove": [], "repeat": [rows[other]], "replace": [rng.choice(OTHERS)]}[choice]
        return json.dumps(rows).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return body


def reshape_field(rng: Random, row: Any, choice: str) -> None:
    """Change one field of an object or of an object in it."""
    while isinstance(row, dict) and row:
        key = rng.choice(list(row))
        if isinstance(row[key], dict) and row[key] and rng.random() < 0.8:
            row = row[key]
            continue
        value = row.pop(key)
        if choice != "drop":
            renamed = rng.choice((key.upper(), f"{key}_", "", "id", "\ud800"))
            row[renamed if choice == "rename" else key] = {"rename": value, "null": None}.get(
                choice, rng.choice([*OTHERS, [value], str(value)])
            )
        return


def delimiter_of(body: bytes) -> bytes:
    """The delimiter that the first line uses most."""
    first = body.split(b"\n", 1)[0]
    return max((b",", b";", b"\t", b"|"), key=first.count)


def rearrange(rng: Random, body: bytes) -> bytes:
    """Make rows ragged, repeat, swap or drop lines, double a name of the header, or swap two columns."""
    sign, lines = delimiter_of(body), body.splitlines(keepends=True) or [b""]
    rows = [line.split(sign) for line in lines]
    at, other = rng.randrange(len(rows)), rng.randrange(len(rows))
    left, right = rng.randrange(len(rows[0])), rng.randrange(len(rows[0]))
    choice = rng.choice(("longer", "shorter", "repeat", "swap", "drop", "header", "columns", "blank"))
    if choice == "header":
        rows[0][left] = rows[0][right]
    elif choice == "columns":
        for row in rows:
            if max(left, right) < len(row):
                row[left], row[right] = row[right], row[left]
    elif choice == "swap":
        rows[at], rows[other] = rows[other], rows[at]
    elif choice == "longer":
        rows[at].insert(rng.randrange(len(rows[at]) + 1), rng.choice((b"", b"x", b"1", b" ")))
    elif choice == "shorter":
        rows[at] = [*rows[at][: rng.randrange(len(rows[at]) + 1)], b"\n"]
    else:
        rows[at : at + (choice == "drop")] = {"repeat": [rows[other]], "drop": [], "blank": [[b"\n"]]}[choice]
    return b"".join(sign.join(row) for row in rows)


def rewrite(rng: Random, body: bytes) -> bytes:
    """Write the whole text otherwise: delimiter, line ends, encoding, a byte order mark, a line before the header, quotes around cells."""
    choice = rng.randrange(8)
    text = body.decode("utf-8", "replace")
    if choice == 0:
        return body.replace(delimiter_of(body), rng.choice((b",", b";", b"\t", b"|", b"^")))
    if choice == 1:
        return body.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\r\r\n", "\u2028".encode())))
    if choice == 2:
        return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) + body
    if choice == 3:
        return rng.choice((b"sep=;\n", b"Exported by x\n\n", b"\n\n\n", b'"a\nb"\n', b"#\n" * 25)) + body
    if choice == 4:
        return CELL.sub(lambda found: b'"' + found[0] + b'"', body)
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-16-be", "cp1252", "utf-32", "utf-7")), "replace") if choice < 7 else body * 2


def retag(rng: Random, body: bytes) -> bytes:
    """Drop, rename, repeat or nest a tag, repeat, drop or empty an item, or declare another encoding."""
    item = ITEM.search(body, rng.randrange(len(body) + 1)) or ITEM.search(body)
    tag = TAG.search(body, rng.randrange(len(body) + 1)) or TAG.search(body)
    choice = rng.randrange(8)
    if item and choice < 3:
        return body[: item.start()] + (b"", item[0] * 2, b"<item></item>")[choice] + body[item.end() :]
    if choice == 3:
        declared = rng.choice(
            (b"utf-16", b"big5", b"koi8-r", b"x-none", b"utf-7", b"rot13", b"hex", b"idna", b"unicode_escape", b"\xff", b"")
        )
        return b'<?xml version="1.0" encoding="' + declared + b'"?>' + re.sub(rb"^\s*<\?xml.*?\?>", b"", body, flags=re.S)
    if not tag:
        return body
    other = rng.choice(
        (b"guid", b"link", b"title", b"pubDate", b"category", b"dc:date", b"description", b"author", b"updated", b"media:x", b"base")
    )
    again = (b"", tag[0] * 2, tag[0].replace(tag[1], other), tag[0] + b"<" + other + b">" * rng.choice((1, 300)))[choice % 4]
    return body[: tag.start()] + again + body[tag.end() :]


BYTES: list[Mutator] = [flip, delete, repeat, truncate, poison]
MUTATORS: dict[str, list[Mutator]] = {
    "json": [*BYTES, *[poison_value] * 9, *[reshape] * 9, *[double_key] * 2],
    "csv": [*BYTES, *[poison_cell] * 7, *[rearrange] * 5, *[rewrite] * 2],
    "rss": [*BYTES, *[poison_text] * 6, *[retag] * 5],
}
