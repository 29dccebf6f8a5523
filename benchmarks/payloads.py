"""Lists of an API, from bytes to commit, beside the usual ways to store them; and a run of all sources when nothing has changed.

The seconds from bytes to commit are those of a run that loads, less those of a run that is told that nothing changed: what is left is
the transfer over loopback, parsing, validation, the payload as it came, the records, their history and the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cpu import Used, medians
from benchmarks.csv_load import TABLE
from benchmarks.databases import etl, fresh, written
from benchmarks.loaders import RECORDWISE
from benchmarks.results import COSTS, costs, table
from benchmarks.targets import Target, at_least, at_most
from benchmarks.upstream import Upstream, bodies, serve
from shared.db import connect

SIZES = (2_500, 25_000)
SLOWEST = 2_500
"""Records that a peer is given which takes each alone."""
SOURCES = "all sources, nothing changed"


def measure(bench: Bench) -> dict[str, Any]:
    """Every size in turn, then all sources twice."""
    found: list[dict[str, Any]] = []
    for size in sorted({min(size, bench.rows) for size in SIZES}):
        rounds = [dict(measure_round(bench, size)) for _ in range(bench.loads)]
        found += [{"records": size, "case": case} | asdict(medians([each[case] for each in rounds])) for case in rounds[0]]
    return {"loads": found, "unchanged": measure_unchanged(bench)}


def measure_round(bench: Bench, size: int) -> Iterator[tuple[str, Used]]:
    """Ours into an empty database, ours when nothing changed, then the peers, each into an empty table."""
    with serve(bodies(size)) as upstream, fresh(bench.dsn) as dsn:
        for case in ("ours", "ours, nothing changed"):
            yield case, etl(dsn, "run", "--source", "coinpaprika", settings=upstream.settings())
        if bench.with_peers:
            for name, load in RECORDWISE.items():
                if not name.endswith("a row") or size <= SLOWEST:
                    yield name, store(dsn, load, f"{upstream.url}/coinpaprika/tickers")


def store(dsn: str, load: Callable[[str, str], Used], address: str) -> Used:
    """Let a peer read an address and store what is there into an empty table of its own."""
    with connect(dsn, "benchmark") as conn:
        conn.execute(f"drop table if exists peer; {TABLE.format(name='peer')}".encode())
    return load(dsn, address)


def measure_unchanged(bench: Bench) -> dict[str, Any]:
    """Run all sources until there is nothing new, then once more each round: what it cost, and what was written."""
    file = bench.folder / "unchanged.csv"
    file.write_text("id,name,price\n" + "".join(f"coin-{n},Coin {n},{n + 1}\n" for n in range(min(bench.rows, 10_000))))
    with serve(bodies(min(bench.rows, SIZES[0]))) as upstream, fresh(bench.dsn) as dsn:
        run_all(dsn, upstream, file)
        before = written(dsn)
        rounds = [run_all(dsn, upstream, file) for _ in range(bench.rounds)]
        after = written(dsn).since(before)
    return asdict(medians(rounds)) | {"rows": after.total, "tables": after.rows, "wal": after.wal / bench.rounds}


def run_all(dsn: str, upstream: Upstream, file: Path) -> Used:
    """One run of all sources."""
    return etl(dsn, "run", "--source", "all", settings={"CSV_PATHS": str(file), **upstream.settings()})


def tell(found: dict[str, Any]) -> list[str]:
    """Two tables."""
    loads = [(f"{each['records']:,}", each["case"], *costs(each), f"{each['records'] / each['seconds']:,.0f}") for each in found["loads"]]
    unchanged = found["unchanged"]
    return [
        "## Payloads of an API",
        "A list of tickers from a server on loopback into an empty database; the peers read the same bytes and store them into a "
        "table with a primary key, without payload, history, checkpoint or validation. Seconds are of the whole command, start included.",
        table(("records", "case", *COSTS, "records/s"), loads),
        f"### {SOURCES[0].upper()}{SOURCES[1:]}",
        table((*COSTS, "rows written", "WAL, kB"), [(*costs(unchanged), unchanged["rows"], f"{unchanged['wal'] / 1000:.1f}")]),
        f"Of {', '.join(unchanged['tables']) or 'no table'}. Not counted: the run's own bookkeeping, which is its row, its checkpoint, "
        "its calls, and what the watch for drift has seen of each payload.",
    ]


def judge(found: dict[str, Any]) -> Iterator[Target]:
    """From bytes to commit, and nothing written when nothing changed."""
    most = max(each["records"] for each in found["loads"])
    seconds = {each["case"]: each["seconds"] for each in found["loads"] if each["records"] == most}
    took = max(seconds["ours"] - seconds["ours, nothing changed"], 0.001)
    yield at_least(f"{most:,} API records, from bytes to commit", most / took, 40_000, " records/s")
    yield at_most(f"{SOURCES}: rows written", found["unchanged"]["rows"], 0, "")
