"""Measure everything in turn and write results.md and results.json.

python -m benchmarks [--rows 1000000] [--rounds 3] [--loads 1] [--seconds 2] [--only reads csv] [--without-peers] [--into benchmarks]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import csv_load, dataset, exports, machine, reads, start, targets
from benchmarks.results import write
from shared import embedded
from shared.db import connect
from shared.migrations import migrate

SECTIONS = ("start", "reads", "exports", "csv")


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", type=int, default=1, help="rounds of the loads, which take minutes each")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement of a read")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--without-peers", action="store_true", help="leave out what has to be installed first")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="the folder the results go to")
    return parser.parse_args(arguments)


def measure(dsn: str, folder: Path, told: argparse.Namespace) -> dict[str, Any]:
    """Run the sections that are wanted; return everything that was found."""
    found: dict[str, Any] = {
        "rows": told.rows,
        "rounds": told.rounds,
        "loads": told.loads,
        "seconds": told.seconds,
        "facts": machine.describe(dsn),
    }
    with connect(dsn, "benchmark") as conn:
        migrate(conn)
    if "start" in told.only:
        found["start"] = start.measure(dsn, 4 * told.rounds - 1)
    if {"reads", "exports"} & set(told.only):
        dataset.fill(dsn, told.rows, told.rows // 10)
    if "reads" in told.only:
        found["reads"], found["memory"] = reads.measure(dsn, told.rows, told.rounds, told.seconds, not told.without_peers, folder)
    if "exports" in told.only:
        found["exports"] = exports.measure(dsn, told.rounds, folder)
    if "csv" in told.only:
        found["csv"] = csv_load.run(dsn, folder, told.rows, told.loads)
    found["targets"] = list(judged(found))
    return found


def judged(found: dict[str, Any]) -> list[targets.Target]:
    """Every target of what was measured."""
    began = found.get("start")
    return [
        *(targets.of_start(began) if began else ()),
        *(targets.of_loads(found["csv"], began["kasparro-etl --version"] if began else None) if "csv" in found else ()),
        *(targets.of_reads(found["reads"]) if "reads" in found else ()),
        *(targets.of_exports(found["exports"]) if "exports" in found else ()),
    ]


def main() -> None:
    """Measure on a server made for it, and write what was found."""
    told = options(sys.argv[1:])
    folder = Path(tempfile.mkdtemp(prefix="kasparro-bench-"))
    folder.chmod(0o711)
    try:
        with embedded.serve(folder / "home", settings={"max_wal_size": "8GB"}) as dsn:
            found = measure(dsn, folder, told)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found["command"] = f"python -m benchmarks {' '.join(sys.argv[1:])}".strip()
    plain = json.dumps(found, default=asdict, indent=1)
    (told.into / "results.json").write_text(plain + "\n")
    (told.into / "results.md").write_text(write(json.loads(plain)))
    print((told.into / "results.md").read_text())


if __name__ == "__main__":
    main()
