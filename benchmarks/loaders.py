"""A CSV into an empty table, by ours, by psql and by every loader that can be had; and a small one by those that take each record alone.

The loaders do less than ours: none validates a row, keeps what it read or counts what it did; sling, dlt and ingestr upsert by id.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from benchmarks.bench import Bench
from benchmarks.cpu import Used, measured, medians
from benchmarks.csv_load import COLUMNS, PEER, TABLE, write
from benchmarks.databases import environment, etl, fresh
from benchmarks.environments import Absent, environment_of, find_one, find_program
from benchmarks.exports import find_psql
from benchmarks.results import COSTS, costs, table
from benchmarks.servers import ROOT, python_of_peers
from benchmarks.targets import Target, at_least
from shared.db import connect

FEW = 20_000
"""Rows given to those that take each record alone: a million would take them an hour."""
AIMS = {"dlt, Arrow": 3, "pgloader": 4, "ingestr": 4, "sling": 1}
PGLOADER = """
load csv from '{file}' ({columns}) into postgresql://{user}@unix:{host}:{port}/{dbname} target table public.peer ({columns})
with skip header = 1, fields optionally enclosed by '"', fields terminated by ',';
"""


def psql(dsn: str, file: Path) -> Used:
    """Copy to a temporary table, then upsert: the limit of a load that can be done again."""
    command = [find_psql(), "-qX", "-v", "ON_ERROR_STOP=1", dsn]
    return measured(command, environment(dsn, {}), dsn, stdin=PEER.format(file=file))


def ours(dsn: str, file: Path) -> Used:
    """The command."""
    return etl(dsn, "run", "--source", "csv", settings={"CSV_PATHS": str(file)})


def dlt(dsn: str, file: Path) -> Used:
    """Merge Arrow tables. Its state is kept in a folder beside the file."""
    python = environment_of("dlt") / "bin" / "python"
    env = environment(dsn, {"HOME": str(file.parent)})
    return measured([python, "-m", "benchmarks.peers.arrow", file], env, dsn, cwd=ROOT)


def sling(dsn: str, file: Path) -> Used:
    """Upsert by id."""
    program = find_one("sling", "lib/python*/site-packages/sling_linux_amd64/bin/sling-linux-amd64")
    place = ["--src-stream", f"file://{file}", "--tgt-conn", "BENCH", "--tgt-object", "public.sling"]
    env = environment(dsn, {"BENCH": dsn, "SLING_DISABLE_TELEMETRY": "true", "HOME": str(file.parent)})
    return measured([program, "run", *place, "--mode", "incremental", "--primary-key", "id"], env, dsn)


def ingestr(dsn: str, file: Path) -> Used:
    """Merge by id."""
    program = environment_of("ingestr") / "bin" / "ingestr"
    place = ["--source-uri", f"csv://{file}", "--source-table", "assets", "--dest-uri", dsn, "--dest-table", "public.ingestr"]
    how = ["--incremental-strategy", "merge", "--primary-key", "id", "--yes", "--progress", "log"]
    env = environment(dsn, {"HOME": str(file.parent), "INGESTR_DISABLE_TELEMETRY": "true", "DISABLE_TELEMETRY": "true"})
    return measured([program, "ingest", *place, *how], env, dsn)


def pgloader(dsn: str, file: Path) -> Used:
    """Insert; it knows no upsert."""
    program, script = find_program("pgloader"), file.with_suffix(".load")
    script.write_text(PGLOADER.format(file=file, columns=COLUMNS, **conninfo_to_dict(dsn)))
    return measured([program, "--root-dir", file.parent, script], environment(dsn, {}), dsn)


def executemany(dsn: str, file: Path | str) -> Used:
    """psycopg's executemany."""
    return measured([sys.executable, "-m", "benchmarks.peers.executemany", file], environment(dsn, {}), dsn, cwd=ROOT)


def alchemy(way: str) -> Callable[[str, Path | str], Used]:
    """SQLAlchemy, a record or a thousand at a time."""

    def load(dsn: str, file: Path | str) -> Used:
        return measured([python_of_peers(), "-m", "benchmarks.peers.alchemy", way, file], environment(dsn, {}), dsn, cwd=ROOT)

    return load


MANY: dict[str, Callable[[str, Path], Used]] = {
    "ours": ours,
    "psql, copy and upsert": psql,
    "sling": sling,
    "dlt, Arrow": dlt,
    "pgloader": pgloader,
    "ingestr": ingestr,
}
RECORDWISE: dict[str, Callable[[str, Path | str], Used]] = {
    "psycopg executemany": executemany,
    "SQLAlchemy bulk upsert": alchemy("bulk"),
    "SQLAlchemy upsert a row": alchemy("row"),
}


def measure(bench: Bench) -> dict[str, Any]:
    """Both files by all, in turn, each into a database of its own."""
    few = min(bench.rows // 2, FEW)
    own = {name: load for name, load in MANY.items() if bench.with_peers or name in ("ours", "psql, copy and upsert")}
    slow = {"ours": ours, "psql, copy and upsert": psql, **RECORDWISE} if bench.with_peers else {}
    found, absent = list[dict[str, Any]](), dict[str, str]()
    for rows, loaders in ((bench.rows, own), (few, slow)):
        folder = bench.folder / f"loaders-{rows}"
        folder.mkdir(exist_ok=True)
        write(folder / "assets.csv", rows)
        rounds: dict[str, list[Used]] = {}
        for _ in range(bench.loads):
            for name, load in loaders.items():
                try:
                    rounds.setdefault(name, []).append(loaded(bench.dsn, folder / "assets.csv", load))
                except Absent as reason:
                    absent[name] = str(reason)
        found += [{"rows": rows, "case": name} | asdict(medians(each)) for name, each in rounds.items() if each]
    return {"loads": found, "absent": absent}


def loaded(dsn: str, file: Path, load: Callable[[str, Path], Used]) -> Used:
    """Load into a fresh database; its table `peer` is empty. Write-backs of the load before are done by then."""
    with fresh(dsn) as own:
        with connect(own, "benchmark") as conn:
            conn.execute(TABLE.format(name="peer").encode())
            conn.execute("checkpoint")
        os.sync()
        return load(own, file)


def tell(found: dict[str, Any]) -> list[str]:
    """A table, and who is missing."""
    took = {each["rows"]: each["seconds"] for each in found["loads"] if each["case"] == "ours"}
    lines = [(f"{each['rows']:,}", each["case"], *costs(each), f"{each['seconds'] / took[each['rows']]:.2f}x") for each in found["loads"]]
    absent = "; ".join(f"{name}: {reason}" for name, reason in found["absent"].items())
    return [
        "## Load of a CSV, beside other loaders",
        "Into an empty table; start of the program included. Only ours validates rows and keeps payloads, a history and a checkpoint; "
        "psql, pgloader and those that take records write into a table with a primary key, the others make their own.",
        table(("rows", "loader", *COSTS, "against ours"), lines),
        f"Not measured: {absent or 'none'}.",
    ]


def judge(found: dict[str, Any]) -> Iterator[Target]:
    """Ours against each."""
    most = max(each["rows"] for each in found["loads"])
    seconds = {(each["rows"], each["case"]): each["seconds"] for each in found["loads"]}
    for name, aim in AIMS.items():
        if (most, name) in seconds:
            yield at_least(f"fresh load, against {name}", seconds[most, name] / seconds[most, "ours"], aim)
    for rows, name in seconds:
        if name == "SQLAlchemy upsert a row":
            yield at_least(f"load of {rows:,} rows, against SQLAlchemy a row", seconds[rows, name] / seconds[rows, "ours"], 50)
