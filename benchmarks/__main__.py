"""Measure sections in turn and write results.json, results.md and the charts; a section that is not measured now stays as it was.

python -m benchmarks [--only reads csv] [--rows 1000000] [--rounds 3] [--loads 1] [--seconds 2] [--most 10000000] [--without-peers]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.results import write
from benchmarks.sections import SECTIONS, judged
from shared import embedded


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="the sections to measure, else all")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", type=int, default=1, help="rounds of the loads, which take minutes each")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement of a read")
    parser.add_argument("--most", type=int, help="rows of the largest table of the sections growth and memory, else as --rows")
    parser.add_argument("--without-peers", action="store_true", help="leave out what has to be installed first")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="the folder the results go to")
    parser.add_argument("--write", action="store_true", help="measure nothing, write the page anew")
    return parser.parse_args(arguments)


def measure(dsn: str, folder: Path, told: argparse.Namespace) -> list[str]:
    """Measure the sections that are wanted and keep each as soon as it is found; return those that failed."""
    most = told.most or told.rows
    bench = Bench(dsn, folder, told.rows, told.rounds, told.loads, told.seconds, most, not told.without_peers)
    failed = []
    for name in (name for name in SECTIONS if name in told.only):
        section, began = SECTIONS[name], time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        about = machine.describe(dsn) | {"command": command(sys.argv[1:])}
        try:
            found = section.measure(bench)
        except Exception:  # one section does not cost the others
            failed.append(name)
            traceback.print_exc()
            continue
        rounds = told.loads if section.heavy else told.rounds
        rows, took = most if name in ("growth", "memory") else told.rows, (time.monotonic() - began) / 60
        facts = about | {"rows": rows, "rounds": rounds, "minutes": took}
        print(f"{name} took {took:.1f} minutes", file=sys.stderr)
        keep(told.into, {name: {"about": facts, "found": found}})
    return failed


def command(arguments: list[str]) -> str:
    """The command without the folder of the results, which says nothing of them."""
    if "--into" in arguments:
        at = arguments.index("--into")
        arguments = arguments[:at] + arguments[at + 2 :]
    return " ".join(["python -m benchmarks", *arguments])


def keep(into: Path, measured: dict[str, Any]) -> None:
    """Put what was measured in the place of what was known of it, and write everything anew."""
    stored = into / "results.json"
    known = json.loads(stored.read_text())["sections"] if stored.exists() else {}
    both = json.loads(json.dumps(known | measured))
    sections = {name: both[name] for name in SECTIONS if name in both}
    targets = list(judged(sections))
    replace(stored, json.dumps({"targets": targets, "sections": sections}, indent=1) + "\n")
    pages = {name: SECTIONS[name].tell(section["found"]) for name, section in sections.items()}
    replace(into / "results.md", write(sections, pages, targets, [name for name in SECTIONS if name not in sections]))
    for name, section in sections.items():
        for chart, drawn in SECTIONS[name].draw(section["found"]).items():
            (into / "charts").mkdir(exist_ok=True)
            replace(into / "charts" / f"{chart}.svg", drawn)


def replace(file: Path, text: str) -> None:
    """Write a file in one step: who stops us loses nothing."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    half.write_text(text)
    half.replace(file)


def main() -> None:
    """Measure on a server made for it, and write what was found; exit 1 when a section failed."""
    told = options(sys.argv[1:])
    told.into.mkdir(parents=True, exist_ok=True)
    if told.write:
        keep(told.into, {})
        return
    folder = Path(tempfile.mkdtemp(prefix="kasparro-bench-"))
    folder.chmod(0o711)
    try:
        with embedded.serve(folder / "home", settings={"max_wal_size": "8GB"}) as dsn:
            failed = measure(dsn, folder, told)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
