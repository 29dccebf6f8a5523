"""The faults of a stand-in for the upstreams that runs as a program of its own and is told what to do by `POST /__control`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

P, G, R = "/coinpaprika", "/coingecko", "/rss"
SOURCES = {P: "coinpaprika", G: "coingecko", R: "rss"}
FAULTS: tuple[tuple[str, int, str], ...] = (
    ('{"match": "/coinpaprika", "kind": "status", "status": 503, "times": 2}', 0, ""),
    ('{"match": "/coingecko", "kind": "status", "status": 429, "headers": {"Retry-After": "2"}}', 0, ""),
    (
        '{"match": "/coingecko", "kind": "status", "status": 429, "headers": {"Retry-After": "900"}, "times": -1}',
        3,
        "1 try: try again after",
    ),
    ('{"match": "/coinpaprika", "kind": "reset", "after": 1000}', 0, ""),
    ('{"match": "/coinpaprika", "kind": "truncate", "after": 1000, "times": -1}', 3, "broke off"),
    ('{"match": "/coinpaprika", "kind": "badgzip", "times": -1}', 3, "cut short"),
    ('{"match": "/coinpaprika", "kind": "bomb"}', 3, "more than 32 MiB"),
    ('{"match": "/coingecko", "kind": "endless"}', 3, "more than 32 MiB"),
    ('{"match": "/coingecko", "kind": "html"}', 3, "text/html instead of JSON"),
    ('{"match": "/rss", "kind": "html"}', 3, "not a feed"),
    ('{"match": "/coingecko", "kind": "json", "body": "[NaN, {}, null]"}', 3, "are invalid"),
    ('{"match": "/coingecko", "kind": "redirect", "location": "http://127.0.0.1:9/"}', 3, "put the final address"),
    ('{"match": "/rss", "kind": "redirect", "location": "http://169.254.169.254/"}', 3, "inside this network"),
    ('{"match": "/coinpaprika", "kind": "slow", "chunk": 20000, "delay": 0.2}', 0, ""),
    ('{"match": "/coinpaprika", "kind": "stall", "delay": 5}', 0, ""),
)


def run_standin(program: Path, command: Callable[..., Any], row: Callable[..., str]) -> list[str]:
    """Start the program and run every fault on it; print the rows; return what does not hold."""
    process = subprocess.Popen([sys.executable, str(program), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    wrong = []
    try:
        assert process.stdout
        base = process.stdout.readline().strip()
        environ = {
            "COINPAPRIKA_BASE_URL": f"{base}/coinpaprika/v1",
            "COINGECKO_BASE_URL": f"{base}/coingecko/api/v3",
            "RSS_FEED_URLS": f"{base}/rss/cointelegraph",
        }
        for fault, code, told in FAULTS:
            control = json.dumps({"faults": [json.loads(fault)], "log": []}).encode()
            urlopen(Request(f"{base}/__control", control)).close()
            result = command(SOURCES[json.loads(fault)["match"]], environ)
            with urlopen(f"{base}/__log") as answer:
                requests = len(json.load(answer))
            print(row(f"stand-in: {fault[1:-1]}".replace('"', ""), result, requests), flush=True)
            right = result.code == code and told in str(result.run.get("error_message") or "")
            if not right or "Traceback" in result.err or result.memory >= 200:
                wrong.append(f"stand-in {fault}: exit {result.code}, {result.out[-300:]} {result.err[-300:]}")
    finally:
        process.terminate()
        process.wait()
    return wrong
