"""The upstreams on loopback, from a seed: a list of tickers, pages of markets, a feed; and what they say when nothing changed."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PER_PAGE = 250
LAST_MODIFIED = "Sat, 07 Mar 2026 12:00:00 GMT"


@dataclass(slots=True)
class Upstream:
    """Where it listens, and what it answers by path and page; a request of what is known already is a 304."""

    url: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """The settings that name it."""
        return {
            "COINPAPRIKA_BASE_URL": f"{self.url}/coinpaprika",
            "COINGECKO_BASE_URL": f"{self.url}/coingecko",
            "RSS_FEED_URLS": f"{self.url}/feed",
        }


@contextmanager
def serve(bodies: dict[str, bytes]) -> Iterator[Upstream]:
    """Answer these bodies in a thread for as long as the block lasts."""
    world = Upstream(bodies=bodies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer a body, or that it has not changed: the market list never says so."""
            parts = urlsplit(self.path)
            page = parse_qs(parts.query).get("page", [""])[0]
            body = world.bodies.get(f"{parts.path}{page and '?'}{page}", b"[]")
            known = self.headers.get("If-Modified-Since") == LAST_MODIFIED
            self.send_response(304 if known else 200)
            if not page:
                self.send_header("Last-Modified", LAST_MODIFIED)
            self.send_header("Content-Type", "application/xml" if parts.path == "/feed" else "application/json")
            self.send_header("Content-Length", "0" if known else str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if known else body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        world.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield world
        server.shutdown()
        thread.join()


def bodies(records: int) -> dict[str, bytes]:
    """All three upstreams: so many tickers, four pages of markets, a feed of 30 articles."""
    pages = {f"/coingecko/coins/markets?{page}": markets(page) for page in range(1, 5)}
    return {"/coinpaprika/tickers": tickers(records), "/feed": feed(30), **pages}


def tickers(records: int, seed: int = 7) -> bytes:
    """The tickers of so many coins, with every field that the provider sends, about 600 bytes each."""
    dice = random.Random(seed)
    return json.dumps([ticker(n, dice) for n in range(records)]).encode()


def ticker(n: int, dice: random.Random) -> dict[str, object]:
    """One ticker (https://api.coinpaprika.com, `GET /tickers`)."""
    price = round(dice.random() * 10 ** dice.randint(-6, 5), 10)
    usd = {"price": price, "volume_24h": round(dice.random() * 1e9, 4), "volume_24h_change_24h": 26.36, "market_cap": n * 1337 + 1}
    usd |= {f"percent_change_{span}": round(dice.random() * 20 - 10, 2) for span in ("1h", "12h", "24h", "7d", "30d", "1y")}
    usd |= {"market_cap_change_24h": 0.64, "ath_price": price * 2, "percent_from_price_ath": -50.0}
    supply = {"circulating_supply": n * 997, "total_supply": n * 997, "max_supply": n * 997, "beta_value": round(dice.random() * 2, 5)}
    about = {"id": f"c{n}-coin-number-{n}", "name": f"Coin number {n}", "symbol": f"C{n}", "rank": n + 1}
    return about | supply | {"last_updated": "2026-03-07T12:00:00Z", "quotes": {"USD": usd | {"ath_date": "2025-12-19T20:09:00Z"}}}


def markets(page: int) -> bytes:
    """A full page of markets (https://docs.coingecko.com, `GET /coins/markets`)."""
    dice, first = random.Random(page), (page - 1) * PER_PAGE
    return json.dumps([market(n, dice) for n in range(first, first + PER_PAGE)]).encode()


def market(n: int, dice: random.Random) -> dict[str, object]:
    """One row of a page."""
    about = {"id": f"coin-number-{n}", "symbol": f"c{n}", "name": f"Coin number {n}", "image": f"https://example.org/{n}.png"}
    price = {"current_price": round(dice.random() * 1000, 6), "market_cap": (PER_PAGE * 4 - n) * 1337, "market_cap_rank": n + 1}
    rest = {"total_volume": n * 31 + 1, "price_change_percentage_24h": round(dice.random() * 20 - 10, 5)}
    return about | price | rest | {"roi": None, "last_updated": "2026-03-07T12:00:00.000Z"}


def feed(articles: int) -> bytes:
    """A feed."""
    items = "".join(
        f"<item><guid>article-{n}</guid><title>Article number {n}</title><link>https://example.org/{n}</link>"
        f"<pubDate>Sat, 07 Mar 2026 {n % 24:02}:00:00 GMT</pubDate><description>What happened to coin {n}.</description></item>"
        for n in range(articles)
    )
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>{items}</channel></rss>'.encode()
