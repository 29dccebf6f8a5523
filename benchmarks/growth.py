"""The cost of a change and of a page over tables of several sizes: it should follow the change, and not the table.

An incremental run brings 1,000 records with other prices into a table of 10,000 rows and more; a page is asked for at every depth of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import Bench
from benchmarks.client import load
from benchmarks.databases import etl, fresh, written
from benchmarks.dataset import fill
from benchmarks.reads import advance, asked, get, spelled
from benchmarks.results import seconds, table
from benchmarks.servers import Server, gunicorn
from benchmarks.svg import chart
from benchmarks.targets import Target, at_least, at_most
from shared.db import connect

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
CHANGED = 1000
DEPTHS = (1, 10, 100, 1000, 9000)
PAGE = 100
STEP = 1000
"""Records of a page while walking to a depth."""
PICKED = "select external_id, name from unified_data where source = 'csv' order by md5(external_id) limit %(limit)s"


def measure(bench: Bench) -> dict[str, Any]:
    """Grow one table from size to size; at each, run what changed and ask for pages."""
    sizes = [size for size in SIZES if size <= bench.most] or [bench.most]
    runs, pages, before = list[dict[str, Any]](), list[dict[str, Any]](), 0
    with fresh(bench.dsn) as dsn, gunicorn("web.wsgi:app", dsn, bench.folder / "growth.log") as server:
        for size in sizes:
            fill(dsn, size, 100, before)
            runs.append({"rows": size} | run_changes(bench, dsn))
            pages += ({"rows": size} | page for page in ask_pages(bench, server, dsn, size))
            before = size
    return {"runs": runs, "pages": pages}


def run_changes(bench: Bench, dsn: str) -> dict[str, Any]:
    """Change the same records again and again, each time after a checkpoint; the first run, which makes room for the month, is left out."""
    with connect(dsn, "benchmark") as conn:
        picked = [(row["external_id"], row["name"]) for row in conn.execute(PICKED, {"limit": CHANGED}).fetchall()]
    found = []
    for number in range(bench.rounds + 1):
        file = write_changes(bench.folder / "changes.csv", picked, number)
        with connect(dsn, "benchmark") as conn:
            conn.execute("checkpoint")
        before = written(dsn)
        used = etl(dsn, "run", "--source", "csv", settings={"CSV_PATHS": str(file)})
        after = written(dsn).since(before)
        found.append((used.seconds, used.client_cpu + used.server_cpu, after.total, after.wal))
    names = ("seconds", "cpu", "written", "wal")
    return {"changed": len(picked)} | {name: median(each) for name, each in zip(names, zip(*found[1:], strict=True), strict=True)}


def write_changes(file: Path, picked: list[tuple[str, str]], number: int) -> Path:
    """Write the records with prices and a time that they have not had."""
    dice, now = random.Random(number), datetime.now(UTC)
    rows = (f"{name},{title},{dice.random() * 1000:.8f},{now:%Y-%m-%dT%H:%M:%SZ}\n" for name, title in picked)
    file.write_text("id,name,price,last_updated\n" + "".join(rows))
    return file


def ask_pages(bench: Bench, server: Server, dsn: str, rows: int) -> Iterator[dict[str, Any]]:
    """Ask for a page at each depth, in turn, by one client, never the same address twice."""
    last = max(rows // PAGE, 1)
    cursors = walk(server, [depth for depth in DEPTHS if depth < last] + [last])
    found: dict[int, list[float]] = {}
    for _ in range(bench.rounds):
        advance(dsn)
        for depth, cursor in cursors.items():
            told = load(server.address, asked(spelled(cursor and f"cursor={cursor}")), 1, bench.seconds)
            if told.failures:
                raise RuntimeError(f"page {depth}: {told.failure}")
            found.setdefault(depth, []).append(told.percentile(0.5))
    for depth, times in found.items():
        yield {"page": depth, "p50": median(times)}


def walk(server: Server, depths: list[int]) -> dict[int, str]:
    """Walk from the first page to the deepest; the cursor of each depth."""
    cursors, cursor, behind = dict[int, str](), "", 0
    for depth in depths:
        while behind < (depth - 1) * PAGE:
            _, told = get(server, f"/data?limit={min(STEP, (depth - 1) * PAGE - behind)}{cursor and '&cursor='}{cursor}")
            if "paging" not in told:
                raise RuntimeError(f"on the way to page {depth}: {told}")
            cursor, behind = told["paging"]["next_cursor"], behind + len(told["data"])
        cursors[depth] = cursor
    return cursors


def tell(found: dict[str, Any]) -> list[str]:
    """Tables and charts."""
    runs = [
        (f"{each['rows']:,}", f"{each['changed']:,}", seconds(each["seconds"]), seconds(each["cpu"]), f"{each['written']:,.0f}", wal(each))
        for each in found["runs"]
    ]
    sizes = list(dict.fromkeys(each["rows"] for each in found["pages"]))
    by = {(each["rows"], each["page"]): f"{each['p50']:.2f}" for each in found["pages"]}
    depths = sorted({each["page"] for each in found["pages"]})
    pages = [(f"{depth:,}", *(by.get((rows, depth), "") for rows in sizes)) for depth in depths]
    return [
        "## Cost by the size of the table",
        "### An incremental run",
        f"A CSV of {CHANGED:,} records (of fewer in a small table) that are in the table with another price, right after a checkpoint, "
        "so that every page touched is logged whole. Seconds are of the whole command. Rows are those of all tables but the run's own "
        "bookkeeping: a record, a point of its history, its payload, the kept counts and versions.",
        table(("rows in the table", "changed", "seconds", "CPU s", "rows written", "WAL, MB"), runs),
        "![Seconds of an incremental run by the rows in the table](charts/run.svg)",
        "### A page by a cursor",
        "Median milliseconds of `GET /data?limit=100`, not cached, by one client; the deepest is the last of its table.",
        table(("page", *(f"{rows:,} rows" for rows in sizes)), pages),
        "![Milliseconds of a page by its number](charts/page.svg)",
    ]


def wal(each: dict[str, Any]) -> str:
    """Megabytes of the log."""
    return f"{each['wal'] / 1e6:.1f}"


def draw(found: dict[str, Any]) -> dict[str, str]:
    """The charts by the name of their file."""
    runs = {"the whole command": [(each["rows"], each["seconds"]) for each in found["runs"]]}
    runs["processor time, both sides"] = [(each["rows"], each["cpu"]) for each in found["runs"]]
    pages: dict[str, list[tuple[float, float]]] = {}
    for each in found["pages"]:
        pages.setdefault(f"{each['rows']:,} rows", []).append((each["page"], each["p50"]))
    return {
        "run": chart("An incremental run of 1,000 changed records", "rows in the table", "seconds", runs),
        "page": chart("A page by a cursor", "number of the page", "milliseconds (median)", pages),
    }


def judge(found: dict[str, Any]) -> Iterator[Target]:
    """The largest against the smallest that changed as much, and the deepest page against the first."""
    pages = {(each["rows"], each["page"]): each["p50"] for each in found["pages"]}
    most = max(each["rows"] for each in found["runs"])
    depth = 9000 if (most, 9000) in pages else max(page for rows, page in pages if rows == most)
    yield at_least(f"cursor page {depth:,} of {most:,} rows, speed against page 1", pages[most, 1] / pages[most, depth], 0.9)
    if most > 1_000_000:
        ratio = pages[1_000_000, 1] / pages[most, 1]
        yield at_least(f"a page over {most:,} rows, speed against 1,000,000", ratio, 0.8)
    runs = [each for each in found["runs"] if each["changed"] == found["runs"][-1]["changed"]]
    name = f"{runs[-1]['changed']:,} changed records in {most:,} rows: rows written, against {runs[0]['rows']:,} rows"
    yield at_most(name, runs[-1]["written"] / runs[0]["written"], 1.1)
