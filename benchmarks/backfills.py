"""A backfill of price points from a file, by one process and by two that share it, beside psql's copy and upsert of the same file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cpu import Used, measured, medians
from benchmarks.databases import environment, etl, fresh
from benchmarks.exports import find_psql
from benchmarks.results import COSTS, costs, table
from benchmarks.targets import Target
from shared.db import connect

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOURS = 10_000
"""Points of an asset, an hour apart."""
TABLE = """create table peer (id text collate "C", date timestamptz, price numeric, market_cap numeric, volume_usd numeric,
primary key (id, date))"""
PEER = """
create temporary table t (like peer); \\copy t from '{file}' with (format csv, header)
insert into peer select distinct on (id, date) * from t order by id, date
on conflict (id, date) do update
set price = excluded.price, market_cap = excluded.market_cap, volume_usd = excluded.volume_usd
where (peer.*) is distinct from (excluded.*);
"""


def measure(bench: Bench) -> list[dict[str, Any]]:
    """One process, two, and psql, in turn, each into a database of its own."""
    file = bench.folder / "points.csv"
    write(file, bench.rows)
    rounds: dict[str, list[Used]] = {}
    for _ in range(bench.loads):
        for processes in (1, 2):
            with fresh(bench.dsn) as dsn:
                used = etl(dsn, "backfill", "--source", "coinpaprika", "--file", file, times=processes)
                rounds.setdefault(f"ours, {processes} process{'es' * (processes > 1)}", []).append(used)
                check(dsn, bench.rows)
        with fresh(bench.dsn) as dsn:
            with connect(dsn, "benchmark") as conn:
                conn.execute(TABLE.encode())
            command = [find_psql(), "-qX", "-v", "ON_ERROR_STOP=1", dsn]
            used = measured(command, environment(dsn, {}), dsn, stdin=PEER.format(file=file))
            rounds.setdefault("psql, copy and upsert", []).append(used)
    return [{"points": bench.rows, "case": name} | asdict(medians(each)) for name, each in rounds.items()]


def write(file: Path, points: int) -> None:
    """Write the points, asset after asset."""
    dice = random.Random(17)
    with file.open("w") as opened:
        opened.write("id,date,price,market_cap,volume_usd\n")
        for n in range(points):
            at = FIRST + timedelta(hours=n % HOURS)
            opened.write(f"asset-{n // HOURS},{at:%Y-%m-%dT%H:%M:%SZ},{dice.random() * 1000:.8f},{n * 1337},{n * 31}\n")


def check(dsn: str, points: int) -> None:
    """See that all points are there. Raises RuntimeError."""
    with connect(dsn, "benchmark") as conn:
        row = conn.execute("select count(*) as points from price_history").fetchone()
    if not row or row["points"] != points:
        raise RuntimeError(f"{row and row['points']} of {points} points were loaded")


def tell(found: list[dict[str, Any]]) -> list[str]:
    """A table."""
    limit = next(each["seconds"] for each in found if each["case"].startswith("psql"))
    lines = [(each["case"], *costs(each), f"{each['points'] / each['seconds']:,.0f}", f"{each['seconds'] / limit:.2f}x") for each in found]
    return [
        "## Backfill of a file",
        f"{found[0]['points']:,} price points, {HOURS:,} hours of each asset, into an empty history; two processes share one backfill.",
        table(("", *COSTS, "points/s", "against psql"), lines),
    ]


def judge(_found: list[dict[str, Any]]) -> Iterator[Target]:
    """Nothing was aimed at."""
    return iter(())
