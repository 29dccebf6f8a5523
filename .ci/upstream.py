#!/usr/bin/env python3
"""Stands in for the upstreams where containers are proved: the payloads of the tests, on every address of this machine."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAYLOADS = Path(__file__).parent.parent / "tests" / "payloads"
ANSWERS = {
    "/p/tickers": ("application/json", "coinpaprika/tickers.json"),
    "/g/coins/markets": ("application/json", "coingecko/markets.json"),
    "/feed": ("application/rss+xml", "rss/short.xml"),
}


class Handler(BaseHTTPRequestHandler):
    """Answers three addresses."""

    def do_GET(self) -> None:
        """Send a payload."""
        kind, name = ANSWERS.get(self.path.partition("?")[0], ("", ""))
        body = (PAYLOADS / name).read_bytes() if name else b"not found"
        self.send_response(200 if name else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()  # noqa: S104
