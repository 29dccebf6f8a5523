"""Requests a second of every kind of read, of ours, of the peers and of a Flask app that does nothing, in turn over the same rows.

python -m benchmarks --only reads [--rows 1000000] [--rounds 3] [--seconds 2] [--without-peers]
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from benchmarks.client import load, request
from benchmarks.dataset import WORDS
from benchmarks.servers import Server, gunicorn, memory, peers
from shared.db import connect
from web.catalog import FRESH

CLIENTS = (1, 16, 64)
EMPTY = ("kind", "category", "status", "symbol", "q")


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of whom; the requests go round."""

    name: str
    server: str
    requests: list[bytes]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of a case at a number of clients, and the rate of each round; `failures` are answers of another status."""

    case: str
    clients: int
    rate: float
    p50: float
    p99: float
    cpu: float
    rates: list[float]
    failures: int


def measure(dsn: str, rows: int, rounds: int, seconds: float, with_peers: bool, folder: Path) -> tuple[list[Result], dict[str, float]]:
    """Measure every case at every number of clients, all cases once a round; and tell the memory of a worker of each server."""
    with ExitStack() as opened:
        servers = {
            "ours": opened.enter_context(gunicorn("web.wsgi:app", dsn, folder / "ours.log")),
            "hello": opened.enter_context(gunicorn("benchmarks.hello:app", dsn, folder / "hello.log")),
        }
        if with_peers:
            servers["peers"] = opened.enter_context(peers(dsn, folder / "peers.log"))
        cursor = find_cursor(servers["ours"], rows * 9 // 10)
        found: dict[tuple[str, int], list[tuple[float, float, float, float]]] = {}
        failures: dict[tuple[str, int], int] = {}
        for _, clients in product(range(rounds), CLIENTS):
            advance(dsn)
            for case in list_cases(servers["ours"], rows, cursor):
                if case.server not in servers:
                    continue
                told = load(servers[case.server].address, case.requests, clients, seconds, case.status)
                if told.failures and case.server == "ours":
                    raise RuntimeError(f"{case.name}: {told.failures} answers of another status: {told.failure}")
                failures[case.name, clients] = failures.get((case.name, clients), 0) + told.failures
                facts = (told.rate, told.percentile(0.5), told.percentile(0.99), told.cpu)
                found.setdefault((case.name, clients), []).append(facts)
        used = {name: max(memory(pid) for pid in server.workers()) for name, server in servers.items()}
        return [summed(name, clients, facts, failures[name, clients]) for (name, clients), facts in found.items()], used


def summed(case: str, clients: int, facts: list[tuple[float, float, float, float]], failures: int) -> Result:
    """The medians of the rounds."""
    rate, p50, p99, cpu = (median(values) for values in zip(*facts, strict=True))
    return Result(case, clients, rate, p50, p99, cpu, [each[0] for each in facts], failures)


def advance(dsn: str) -> None:
    """Let the version of all data change, so that nothing kept before is an answer."""
    with connect(dsn, "benchmark") as conn:
        conn.execute("update data_versions set version = version + 1")
    time.sleep(1.2 * FRESH)


def list_cases(ours: Server, rows: int, cursor: str) -> list[Case]:
    """All cases, those that are compared with each other side by side; what is not cached is never asked for twice."""
    page = list(spelled(""))
    words = [f"{one} {two[:size]}".lower() for size, one, two in product((3, 4, 9), WORDS, WORDS)]
    filtered = list(spelled("source=coingecko&min_price=10&sort=-price_usd"))
    symbols = [f"/data?limit=100&symbol=C{number * 7919 % max(rows // 4, 1)}" for number in range(9000)]
    matches = [f"/data?limit=100&q={quote(text)}" for text in words]
    return [
        Case("bare Flask", "hello", [request("/")]),
        Case("page, cached", "ours", [request("/data?limit=100")]),
        Case("page, 304", "ours", [request("/data?limit=100", {"If-None-Match": get(ours, "/data?limit=100")[0]["ETag"]})], 304),
        Case("page, not cached", "ours", asked(page)),
        Case("page, tuned peer", "peers", asked(page, "/tuned")),
        Case("page, ORM peer", "peers", asked(page, "/orm")),
        Case("page, ORM peer with count", "peers", asked(spelled("count=true"), "/orm")),
        Case("cursor, page 9,000", "ours", asked(spelled(f"cursor={cursor}"))),
        Case("offset 100,000", "ours", asked(spelled("offset=100000"))),
        Case("filter and sort", "ours", asked(filtered)),
        Case("filter and sort, ORM peer", "peers", asked(filtered, "/orm")),
        Case("symbol", "ours", asked(symbols)),
        Case("symbol, ORM peer", "peers", asked(symbols, "/orm")),
        Case("q", "ours", asked(matches)),
        Case("q, ORM peer", "peers", asked(matches, "/orm")),
        Case("/stats", "ours", [request("/stats")]),
        Case("/health", "ours", [request("/health")]),
    ]


def asked(paths: Iterable[str], prefix: str = "") -> list[bytes]:
    """The requests for these addresses."""
    return [request(prefix + path) for path in paths]


def spelled(rest: str) -> Iterator[str]:
    """The first hundred under 8,192 addresses: characters of `limit=100` percent-encoded, and parameters that are empty left in or out."""
    for letters in product(*((each, f"%{ord(each):02x}") for each in "limit100")):
        for chosen in product((True, False), repeat=len(EMPTY)):
            empty = "".join(f"&{name}=" for name, taken in zip(EMPTY, chosen, strict=True) if taken)
            yield f"/data?{''.join(letters[:5])}={''.join(letters[5:])}&{rest}{empty}".replace("&&", "&").removesuffix("&")


def find_cursor(server: Server, behind: int) -> str:
    """Walk to a place so many records in; the cursor that goes on from there."""
    cursor, done = "", 0
    while done < behind:
        _, told = get(server, f"/data?limit={min(1000, behind - done)}{cursor and '&cursor='}{cursor}")
        cursor, done = told["paging"]["next_cursor"], done + len(told["data"])
    return cursor


def get(server: Server, path: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The headers and the JSON of an answer."""
    conn = http.client.HTTPConnection(*server.address, timeout=30)
    conn.request("GET", path)
    response = conn.getresponse()
    headers, body = dict(response.getheaders()), json.loads(response.read())
    conn.close()
    return headers, body
