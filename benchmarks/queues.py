"""`GET /stats` by the number of runs, and the claim of a chunk by the number of chunks: neither may grow with what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.bench import Bench
from benchmarks.client import load, request
from benchmarks.databases import fresh
from benchmarks.dataset import RUNS
from benchmarks.results import table
from benchmarks.servers import gunicorn
from benchmarks.svg import chart
from benchmarks.targets import Target, at_most
from etl.backfill.store import open_worker, take_chunk
from shared.db import connect

SIZES = (100, 1_000, 10_000, 100_000)
CLAIMS = 100
CHUNKS = """
with made as (
    insert into backfills (source, digest, request, chunks) values ('coinpaprika', %(digest)s, '{}', %(chunks)s) returning id
)
insert into backfill_chunks (backfill_id, number, external_id, starts_at, ends_at, state)
select made.id, n, 'asset-' || n / 100, '2020-01-01'::timestamptz + n * interval '1 day', '2020-01-02'::timestamptz + n * interval '1 day',
    case when n <= %(done)s then 'done' else 'waiting' end
from made, generate_series(1, %(chunks)s) n
returning backfill_id
"""


def measure(bench: Bench) -> dict[str, Any]:
    """Both, each size in turn."""
    sizes = [size for size in SIZES if size <= max(bench.rows, SIZES[0])]
    return {"stats": list(ask_stats(bench, sizes)), "claims": list(claim_chunks(bench, sizes))}


def ask_stats(bench: Bench, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Add runs, ask."""
    before = 0
    with fresh(bench.dsn) as dsn, gunicorn("web.wsgi:app", dsn, bench.folder / "stats.log") as server:
        for size in sizes:
            with connect(dsn, "benchmark") as conn:
                conn.execute(RUNS.format(first=before + 1, last=size).encode())
                conn.execute("vacuum (analyze)")
            before = size
            told = [load(server.address, [request("/stats")], 1, bench.seconds) for _ in range(bench.rounds)]
            if any(each.failures for each in told):
                raise RuntimeError(told[0].failure)
            yield {"runs": size, **{f"p{share}": median(each.percentile(share / 100) for each in told) for share in (50, 99)}}


def claim_chunks(bench: Bench, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Claim the first chunks of a new backfill, and the last ones of one that is nearly done."""
    for size in sizes:
        found = {}
        for name, done in (("first", 0), ("last", size - CLAIMS)):
            with fresh(bench.dsn) as dsn:
                found[name] = median(claim(dsn, size, done))
        yield {"chunks": size, **found}


def claim(dsn: str, chunks: int, done: int) -> list[float]:
    """Milliseconds of each claim, its transaction included."""
    took = []
    with connect(dsn, "benchmark") as conn:
        row = conn.execute(CHUNKS, {"digest": f"{chunks}-{done}", "chunks": chunks, "done": done}).fetchone()
        assert row
        conn.execute("vacuum (analyze)")
        run = open_worker(conn, "coinpaprika")
        for _ in range(CLAIMS):
            began = time.perf_counter()
            if not take_chunk(conn, run, [row["backfill_id"]]):
                raise RuntimeError("no chunk was free")
            took.append(1000 * (time.perf_counter() - began))
    return took


def tell(found: dict[str, Any]) -> list[str]:
    """Tables and charts."""
    stats = [(f"{each['runs']:,}", f"{each['p50']:.2f}", f"{each['p99']:.2f}") for each in found["stats"]]
    claims = [(f"{each['chunks']:,}", f"{each['first']:.2f}", f"{each['last']:.2f}") for each in found["claims"]]
    return [
        "## Runs and chunks",
        f"Milliseconds: `GET /stats` by one client; the claim of a chunk of a backfill, median of the first {CLAIMS} and of the last.",
        table(("runs", "/stats, p50", "/stats, p99"), stats),
        "![Milliseconds of /stats by the number of runs](charts/stats.svg)",
        table(("chunks", "claim, none done", "claim, nearly all done"), claims),
        "![Milliseconds of a claim by the number of chunks](charts/claims.svg)",
    ]


def draw(found: dict[str, Any]) -> dict[str, str]:
    """The charts by the name of their file."""
    stats = {name: [(each["runs"], each[name]) for each in found["stats"]] for name in ("p50", "p99")}
    claims = {f"the {name} {CLAIMS}": [(each["chunks"], each[name]) for each in found["claims"]] for name in ("first", "last")}
    return {
        "stats": chart("GET /stats by one client", "runs stored", "milliseconds", stats),
        "claims": chart("The claim of a chunk", "chunks of the backfill", "milliseconds (median)", claims),
    }


def judge(found: dict[str, Any]) -> Iterator[Target]:
    """The most runs and chunks."""
    stats, claims = found["stats"][-1], found["claims"]
    yield at_most(f"/stats with {stats['runs']:,} runs, one client, median", stats["p50"], 5, " ms")
    if len(claims) > 1:
        ratio = max(claims[-1]["first"], claims[-1]["last"]) / claims[0]["first"]
        yield at_most(f"claim of a chunk of {claims[-1]['chunks']:,}, against {claims[0]['chunks']:,}", ratio, 1.5)
