"""Trials: kill a run at every point, resume it, and compare with a run that nothing happened to.

    python -m tests.trials [--every N] [--kinds csv,rss] [--mutant NAME]

Exhaustive, not random: a run is killed at point 1, 2, … until one completes. `--every N` takes each N-th point.
A mutant plants a bug that the trials must find; then they fail, and the exit code is 0 when they do.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog

from shared import embedded
from shared.db import connect
from shared.migrations import migrate
from tests.trials.mutants import MUTANTS
from tests.trials.oracle import picture, violations
from tests.trials.points import instrument
from tests.trials.world import KINDS, World, in_child, run_kind, serve_upstreams

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
SHAPES = ("first", "incremental", "resume")


def killed_run(dsn: str, kind: str, environ: dict[str, str], at: int, mutant: str) -> Any:
    """Run with a kill at a point, in a child; None when it died there, the number of points when it got through."""

    def work() -> int:
        MUTANTS[mutant]()
        points = instrument(at)
        run_kind(dsn, kind, environ)
        return points.seen

    return in_child(work)


def resumed(dsn: str, kind: str, environ: dict[str, str], mutant: str) -> tuple[str, str]:
    """Run to the end, without a kill."""

    def work() -> tuple[str, str]:
        MUTANTS[mutant]()
        return run_kind(dsn, kind, environ)

    told: tuple[str, str] = in_child(work)
    return told


def trial(world: World, kind: str, shape: str, every: int, mutant: str) -> tuple[int, int, list[str]]:
    """All points of one kind and shape; returns trials, kills that landed, and what was violated."""
    start = world.copy("blank", "start")
    step = 0
    if shape != "first":
        resumed(start, kind, world.environ(0), "none")
        step = 1
    environ = world.environ(step)
    clean = world.copy("start", "clean")
    resumed(clean, kind, environ, "none")
    expected = picture(clean)
    if shape == "resume":
        middle = killed_run(world.copy("start", "counted"), kind, environ, 0, "none") // 2
        killed_run(start, kind, environ, middle, mutant)
    trials, landed, found, at = 0, 0, list[str](), 1
    while True:
        dsn = world.copy("start", "trial")
        through = killed_run(dsn, kind, environ, at, mutant)
        status = resumed(dsn, kind, environ, mutant) if through is None else ("success", "")
        bad = violations(dsn, expected) + ([f"I7 the resumed run ended {status}"] if status[0] not in ("success", "partial") else [])
        trials, landed = trials + 1, landed + (through is None)
        found += [f"{kind} {shape} point {at}: {name}" for name in bad]
        if through is not None:
            return trials, landed, found
        at += every


def run_trials(world: World, kinds: list[str], every: int, mutant: str) -> int:
    """Run and print the table; return the number of violations."""
    total, all_found = 0, list[str]()
    print(f"{'kind':<14}{'shape':<14}{'trials':>7}{'landed':>8}{'violations':>12}{'seconds':>9}")
    for kind in kinds:
        for shape in SHAPES:
            started = time.monotonic()
            trials, landed, found = trial(world, kind, shape, every, mutant)
            total, all_found = total + landed, all_found + found
            print(f"{kind:<14}{shape:<14}{trials:>7}{landed:>8}{len(found):>12}{time.monotonic() - started:>9.1f}", flush=True)
    for name in all_found[:20]:
        print(f"  {name}")
    bound = f", below {300 / total:.2f} % of kills with 95 % confidence" if total and not all_found else ""
    print(f"{total} kills landed, {len(all_found)} violations{bound}")
    return len(all_found)


def main() -> None:
    """Read the options, make the world, run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--kinds", default=",".join(KINDS))
    options.add_argument("--mutant", choices=sorted(MUTANTS), default="none")
    told = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="kasparro-trials-", dir=memory if os.access(memory, os.W_OK) else None))
    folder.chmod(0o711)
    pid, upstreams = serve_upstreams()
    try:
        with embedded.serve(folder / "home", settings=FAST) as server:
            with connect(server, "trials") as conn:
                conn.execute("create database blank")
            with connect(server.replace("/kasparro?", "/blank?"), "trials") as conn:
                migrate(conn)
            (folder / "files").mkdir()
            found = run_trials(World(server, upstreams, folder / "files"), told.kinds.split(","), told.every, told.mutant)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(int((found == 0) == (told.mutant != "none")))


if __name__ == "__main__":
    main()
