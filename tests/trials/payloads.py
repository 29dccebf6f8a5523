"""Real payloads for mutations to begin with, a few records each, and the upstream that says what became of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from etl.source import Cursor, Payload, Response
from etl.sources import SOURCES
from shared.settings import Settings

ROOT = Path(__file__).parent.parent.parent
SHIPPED = {
    "coinpaprika": "tests/payloads/coinpaprika/*.json",
    "coingecko": "tests/payloads/coingecko/*.json",
    "csv": "data/sample_assets.csv",
    "rss": "tests/payloads/rss/*.*",
}
RECORDED = {
    "coinpaprika": "coinpaprika/tickers_usd*.json",
    "coingecko": "coingecko/markets*.json",
    "csv": "csv/crypto/*.csv",
    "rss": "rss/**/*.*",
}
WRITTEN = (
    b'Coin;Symbol;Preis USD;Datum\nBitcoin;BTC;39.623,01;16.03.2022\n"Ether\neum";ETH;2.775,5;17.03.2022\nTether;USDT;1,0;31.03.2022\n',
    b'base,quote,last price,volume_24h\nBTC,USD,96123.45,1.2B\nETH,EUR,3.1,"1,000"\nBTC,USDT,96120,7\n',
    b'id|name|symbol|price|tags|url\r\nx|"X ""the"" one"|X|1e3|"[\'a\', \'b\']"|https://x.example\r\ny|Y|Y|(5)||\r\n',
    "\ufeffname\tprice\trank\nBitcoin\t$1,234.56\t#1\nEthereum\t-\t2\n".encode("utf-16-le"),
)


@dataclass(slots=True)
class Upstream:
    """Gives one body to the real `extract` of a kind: as the answer to every request, or as a file; keeps what came of it."""

    kind: str
    folder: Path
    body: bytes = b""
    number: int = 0
    given: list[Payload] = field(default_factory=list)

    def serve(self, body: bytes) -> None:
        """Put a body in place of the one before; a file has a name of its own, so that none passes for an edit of another."""
        path = self.folder / f"{self.number}.csv"
        path.unlink(missing_ok=True)
        self.body, self.number = body, self.number + 1
        if self.kind == "csv":
            (self.folder / f"{self.number}.csv").write_bytes(body)

    def extract(self, settings: Settings, fetch: object, cursor: Cursor) -> Iterator[Payload]:
        """Extract what is served, as a source does."""
        here = Settings(csv_paths=(str(self.folder / f"{self.number}.csv"),), rss_feed_urls=("http://feed.test/rss",))
        self.given = []
        for payload in SOURCES[self.kind].extract(here, self.fetch, cursor):
            self.given.append(payload)
            yield payload

    def fetch(
        self, url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, follow_redirects: bool = False
    ) -> Response:
        """Answer any request with the body."""
        return Response(200, self.body, {"content-type": "application/rss+xml" if self.kind == "rss" else "application/json"}, url)


@lru_cache(maxsize=8)
def seeds(kind: str) -> tuple[tuple[str, bytes], ...]:
    """The payloads that mutations of a kind begin with, each cut down to a few records, with their names."""
    corpus = os.environ.get("KASPARRO_CORPUS")
    paths = sorted(ROOT.glob(SHIPPED[kind])) + (sorted(Path(corpus).glob(RECORDED[kind])) if corpus else [])
    whole = [(path.name, path.read_bytes()) for path in paths if path.suffix in (".json", ".csv", ".xml", ".rss", ".atom", ".html")]
    whole += [(f"written {number}", body) for number, body in enumerate(WRITTEN)] if kind == "csv" else []
    return tuple((f"{name} part {number}", part) for name, body in whole for number, part in enumerate(cut(kind, body)))


def cut(kind: str, body: bytes) -> Iterator[bytes]:
    """Cut a payload into parts of at most 30 records, taken from all over it."""
    if kind == "rss":
        *items, rest = re.split(rb"(?<=</item>)|(?<=</entry>)", body)
        yield from (b"".join(items[:size]) + rest for size in ((1, 4) if len(items) > 4 else (4,)))
    elif kind == "csv":
        head, *lines = body.splitlines(keepends=True)
        for size in (2, 8, 29) if len(lines) > 30 else (30,):
            yield head + b"".join(lines[at] for at in range(0, len(lines), max(1, len(lines) // size)))[:20_000]
    else:
        rows = json.loads(body)
        for size in (1, 3, 6, 12, 30) if len(rows) > 30 else (30,):
            yield json.dumps(rows[:: max(1, -(-len(rows) // size))], ensure_ascii=size != 6).encode()
