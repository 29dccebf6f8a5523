"""Trials with real processes: runs killed, stopped, crowded, cut off from the database, resumed, and compared with a clean run.

    python -m tests.trials.real [--kills N] [--seed S] [--full] [--mutant no-fence]

Beside the exhaustive points of `python -m tests.trials` these are the smoke: the command line itself, signals from outside, a server
that dies, a network that cuts. The mutant takes the fence away; the zombies must find it, and the exit code is 0 when they do.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from etl import load
from etl.batch import Batch
from etl.lease import Run
from shared import embedded
from shared.db import Connection, connect
from tests.trials import outages, proxy
from tests.trials.fences import zombies
from tests.trials.mutants import patch
from tests.trials.opening import opened_stage
from tests.trials.stage import Stage, Tally, held_by, holder, until
from tests.trials.world import BATCH, KINDS

CHAIN = 3
"""Kills in a row before a resume."""


@contextlib.contextmanager
def command(
    stage: Stage, dsn: str, kind: str, batch: int | None = None, environ: dict[str, str] | None = None, locked: str = "wait"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command line as a shell would."""
    words = [
        str(Path(sys.executable).with_name("kasparro-etl")),
        "run",
        "--source",
        kind,
        "--batch-size",
        str(batch or BATCH),
        "--if-locked",
        locked,
    ]
    settings = (environ or stage.world.environ(0)) | {"DATABASE_URL": dsn, "PATH": os.defpath}
    process = subprocess.Popen(words, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def span(stage: Stage, kind: str) -> float:
    """Seconds a run holds its lease."""
    dsn = stage.world.copy("blank", "measured")
    with command(stage, dsn, kind) as process, connect(dsn, "oracle") as conn:
        until(lambda: holder(conn, kind) or process.poll())
        begun = time.monotonic()
        until(lambda: holder(conn, kind) is None or None)
        return time.monotonic() - begun


def killed(stage: Stage, dsn: str, kind: str, delay: float) -> bool:
    """Kill a run some time after it took its lease; whether it was still under way."""
    with command(stage, dsn, kind) as process, connect(dsn, "oracle") as conn:
        before = conn.execute(b"select coalesce(max(id), 0) as id from etl_runs").fetchone()
        last = before["id"] if before else 0

        def begun() -> bool | None:
            return process.poll() is not None or (holder(conn, kind) or 0) > last or None

        until(begun)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=delay)
        process.kill()
        return process.wait() == -signal.SIGKILL and held_by(dsn, kind) is not None


def kills(stage: Stage, number: int) -> Tally:
    """Kill runs at random moments, some in a row, until so many kills were made."""
    tally, spans, made = Tally(), dict[str, float](), 0
    while made < number:
        kind = KINDS[tally.trials % len(KINDS)]
        spans[kind] = spans.get(kind) or span(stage, kind)
        dsn = stage.world.copy("blank", "killed")
        for _ in range(min(CHAIN, number - made)):
            tally.landed += killed(stage, dsn, kind, stage.dice.uniform(0, spans[kind] / 2))
            made += 1
        stage.judge(tally, dsn, kind, f"kills of {kind} chain {tally.trials + 1}", [])
    return tally


def crowd(stage: Stage, kind: str, size: int) -> tuple[str, list[str]]:
    """Start several runs of one source at the same moment; the one that works waits in its first batch until the others are through."""
    dsn = stage.world.copy("blank", "crowd")
    reading, writing = os.pipe()

    def prepare() -> None:
        os.close(writing)
        os.read(reading, 1)  # everybody starts when the last writing end is closed
        stop_in_batch()

    pids = [stage.start(dsn, kind, prepare) for _ in range(size)]
    os.close(reading)
    os.close(writing)
    ends = {pid: stage.changed(pid) for pid in pids}
    working = [pid for pid, code in ends.items() if code is None]
    codes = [code for code in ends.values() if code is not None]
    wrong = [] if len(working) == 1 and codes == [5] * (size - 1) else [f"{len(working)} worked, the others ended with {codes}"]
    wrong += [f"the run that worked ended with {code}" for pid in working if (code := stage.go_on(pid)) != 0]
    return dsn, wrong


def stop_in_batch() -> None:
    """Let this process stop itself before its first batch."""
    original, stopped = load.advance, list[bool]()

    def advance(conn: Connection, run: Run, batch: Batch) -> int:
        if not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(conn, run, batch)

    patch("advance", advance)


def crowds(stage: Stage) -> Tally:
    """Crowds of 2, 4 and 8."""
    tally = Tally()
    for turn in range(20 if stage.full else 1):
        for place, size in enumerate((2, 4, 8)):
            kind = KINDS[(turn + place) % len(KINDS)]
            dsn, wrong = crowd(stage, kind, size)
            tally.landed += size - 1
            stage.judge(tally, dsn, kind, f"{size} at once on {kind}", wrong)
    return tally


def rows(stage: Stage, server: embedded.Server, number: int) -> Iterator[tuple[str, Callable[[], dict[str, Tally]]]]:
    """The trials in their order, each as a name and what to do; a result's key is added to the name."""
    yield "kill", lambda: {"": kills(stage, number)}
    yield "zombie", lambda: zombies(stage)
    yield "crowd", lambda: {"": crowds(stage)}
    yield "commit cut", lambda: {"before": proxy.commits(stage, after=False)}
    yield "commit cut", lambda: {"after": proxy.commits(stage, after=True)}
    yield "server", lambda: {"killed": outages.outages(stage, server, restarts=False)}
    yield "server", lambda: {"restarted": outages.outages(stage, server, restarts=True)}
    yield "disk full", lambda: {"": tally} if (tally := outages.disk_full(stage, server)) else {}


def run_trials(stage: Stage, server: embedded.Server, told: argparse.Namespace) -> int:
    """Run and print the table; return the number of violations."""
    landed, found = 0, list[str]()
    trials = rows(stage, server, told.kills) if told.mutant == "none" else [("zombie", lambda: zombies(stage, fence=False))]
    print(f"{'trial':<20}{'trials':>7}{'landed':>8}{'violations':>12}{'seconds':>9}")
    for name, work in trials:
        started, tallies = time.monotonic(), work()
        if not tallies:
            print(f"{name}: needs root and mount")
        for part, tally in tallies.items():
            landed, found = landed + tally.landed, found + tally.found
            seconds = (time.monotonic() - started) / len(tallies)
            print(f"{f'{name} {part}':<20}{tally.trials:>7}{tally.landed:>8}{len(tally.found):>12}{seconds:>9.1f}", flush=True)
    for line in found[:20]:
        print(f"  {line}")
    print(f"{landed} faults landed, {len(found)} violations, seed {told.seed}")
    return len(found)


def main() -> None:
    """Read the options, make the world, run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    options.add_argument("--full", action="store_true")
    options.add_argument("--mutant", choices=("none", "no-fence"), default="none")
    told = options.parse_args()
    told.kills = (300 if told.full else 20) if told.kills is None else told.kills
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with opened_stage(told.seed, full=told.full) as (stage, server):
        found = run_trials(stage, server, told)
    sys.exit(int((found == 0) == (told.mutant != "none")))


if __name__ == "__main__":
    main()
