"""What a trial happens in: databases copied from templates, upstreams on loopback, and runs in processes that can be killed."""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from etl.chaos import Chaos
from etl.errors import Locked
from etl.execute import run
from etl.sources import SOURCES
from etl.stop import Stop
from etl.work import Options, Outcome, Work
from shared.db import connect, linked
from shared.settings import read_settings

KINDS = ("coinpaprika", "coingecko", "csv", "rss")
BATCH = 7


def stamp(n: int) -> str:
    return f"2026-03-{1 + n % 28:02}T{n % 24:02}:00:00Z"


def tickers(step: int) -> list[dict[str, Any]]:
    """Tickers of a market that moved `step` times: two thirds of the prices change, one is new, one invalid."""
    rows = []
    for n in range(24 + step):
        price = n + (step if n % 3 else 0) + 0.25
        usd = {"price": price, "volume_24h": n, "market_cap": 10 * n, "percent_change_24h": -1.5}
        rows.append(
            {"id": f"c{n}", "name": f"Coin {n}", "symbol": f"C{n}", "rank": n, "last_updated": stamp(n + step), "quotes": {"USD": usd}}
        )
    return [*rows, {"id": "bad", "name": "", "symbol": "B", "last_updated": None, "quotes": {"USD": {"price": -1}}}]


def markets(step: int) -> list[dict[str, Any]]:
    return [
        {"id": f"m{n}", "symbol": f"m{n}", "name": f"M {n}", "current_price": n + (step if n % 3 else 0), "last_updated": stamp(n + step)}
        for n in range(255 + step)
    ]


def feed(step: int) -> bytes:
    items = "".join(
        f"<item><title>T{n} {step if n % 2 else ''}</title><guid>g{n}</guid><link>https://n.example/{n}</link>"
        f"<pubDate>{1 + n % 28:02} Aug 2026 {10 + step}:00:00 +0000</pubDate></item>"
        for n in range(18 + step)
    )
    return f"<rss version='2.0'><channel><title>t</title>{items}</channel></rss>".encode()


def sheet(step: int) -> str:
    rows = [f"S{n},Name {n},{n}.50,{stamp(n)}\n" for n in range(40 + 15 * step)]
    rows[5] = "BAD,Bad,minus one,\n"
    return "symbol,name,price,last_updated\n" + "".join(rows)


class Handler(BaseHTTPRequestHandler):
    """Answers `/STEP/...` with the state of the upstreams after so many steps."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        _, step, what, *_ = path.split("/")
        asked = dict(part.split("=", 1) for part in query.split("&") if "=" in part)
        page, size = int(asked.get("page", 1)), int(asked.get("per_page", 100))
        answers: dict[str, Callable[[], Any]] = {
            "p": lambda: tickers(int(step)),
            "g": lambda: markets(int(step))[(page - 1) * size : page * size],
            "feed": lambda: feed(int(step)),
        }
        answer = answers[what]()
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml" if what == "feed" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def serve_upstreams() -> tuple[int, str]:
    """Start the upstreams in a process of their own; return its pid and address."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    pid = os.fork()
    if pid == 0:
        server.serve_forever()
    return pid, f"http://127.0.0.1:{server.server_address[1]}"


@dataclass(frozen=True)
class World:
    """Where a kind's runs happen: the server, the upstreams, a folder for files."""

    server: str
    upstreams: str
    folder: Path

    def environ(self, step: int) -> dict[str, str]:
        """The settings that show the upstreams after so many steps."""
        base = f"{self.upstreams}/{step}"
        (self.folder / "a.csv").write_text(sheet(step))
        return {
            "COINPAPRIKA_BASE_URL": f"{base}/p",
            "COINGECKO_BASE_URL": f"{base}/g",
            "RSS_FEED_URLS": f"{base}/feed",
            "COINGECKO_RATE_LIMIT": "10000/1",
            "CSV_PATHS": str(self.folder / "*.csv"),
        }

    def copy(self, template: str, name: str) -> str:
        """Make a database from a template and return its address."""
        with connect(self.server, "trials") as conn:
            conn.execute(f"drop database if exists {name} with (force)".encode())
            conn.execute(f"create database {name} template {template}".encode())
        return self.server.replace("/kasparro?", f"/{name}?")


def in_child(work: Callable[[], Any]) -> Any:
    """Run a piece of work in a forked process; return what it returned, or None when it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        code = 0
        try:
            os.write(writing, pickle.dumps(work()))
        except BaseException as error:
            code = 1
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    os.close(writing)
    parts = []
    while part := os.read(reading, 65536):
        parts.append(part)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return None
    if status:
        raise RuntimeError("the child crashed")
    return pickle.loads(b"".join(parts))


def run_kind(dsn: str, kind: str, environ: dict[str, str]) -> tuple[str, str]:
    """Run one source to its end in this process, waiting for a lease whose holder has just died; return status and error."""
    with linked(dsn, "trial") as link:
        while True:
            told = Options(BATCH)
            work = Work(link, SOURCES[kind], read_settings(environ), told, Stop(), lambda _: None, lambda text: text, Chaos())
            outcome: Outcome = run(work)
            if not isinstance(outcome.error, Locked):
                return str(outcome.status), str(outcome.error)
            time.sleep(0.005)
