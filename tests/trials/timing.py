"""Trials that take times: how soon a killed run goes on, and how soon a stopped one ends.

    python -m tests.trials.timing [--rounds N] [--seed S] [--quick]

A run is killed in the middle of a load and the next one started at once: the seconds from the kill to its first commit. A run gets
SIGTERM at a uniformly random moment: the seconds to its exit. Either way the tables have to equal a clean run's in the end.
`--quick` leaves out what has to wait for a lease or a dead network. The exit code is 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import structlog

from tests.trials import crowding, resumes, silences, stops
from tests.trials.opening import opened_stage
from tests.trials.stage import Stage
from tests.trials.world import KINDS

HEADS = f"{'trial':<34}{'rounds':>7}{'landed':>8}{'violations':>12}{'p50 s':>8}{'p99 s':>8}{'max s':>8}"


def rows(stage: Stage, rounds: int, *, quick: bool) -> Iterator[tuple[str, Callable[[], resumes.Timed]]]:
    """The trials in their order, each as a name and what to do."""
    spans = dict[str, float]()
    for kind in ("csv",) if quick else KINDS:
        yield f"kill, resume {kind}", lambda kind=kind: resumes.resumes(stage, kind, max(1, rounds // 8))  # type: ignore[misc]
    yield "stop at any moment", lambda: stops.stops(stage, rounds, spans, inside=False)
    yield "stop while it holds the lease", lambda: stops.stops(stage, rounds, spans, inside=True)
    yield "stop, upstream hangs", lambda: stops.hangs(stage, max(1, rounds // 8))
    if quick:
        return
    yield "stop, batch is stuck", lambda: stops.stuck(stage, len(KINDS))
    folder = stage.world.folder / "large"
    folder.mkdir(exist_ok=True)
    large = replace(stage, world=resumes.Large(stage.world.server, stage.world.upstreams, folder), pictures={})
    yield f"kill, resume csv {resumes.LINES}", lambda: resumes.resumes(large, "csv", max(1, rounds // 20), batch=1000)
    yield "crowd of 20, the 19", lambda: crowding.crowd(stage)
    yield "kill, server not told", lambda: resumes.silent(stage)
    yield "network dies, run goes on", lambda: silences.goes_on(stage)
    yield "network dies, stop", lambda: silences.stops_anyway(stage)


def quantile(seconds: list[float], share: float) -> float:
    """The smallest of the times that at least this share of them does not pass; 0 when there are none."""
    ranked = sorted(seconds) or [0.0]
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def run_trials(stage: Stage, told: argparse.Namespace) -> int:
    """Run and print the table; return the number of violations."""
    landed, found = 0, list[str]()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}")
    print(HEADS)
    for name, work in rows(stage, told.rounds, quick=told.quick):
        tally = work()
        landed, found = landed + tally.landed, found + tally.found
        middle = statistics.median(tally.seconds or [0.0])
        times = f"{middle:>8.2f}{quantile(tally.seconds, 0.99):>8.2f}{max(tally.seconds, default=0.0):>8.2f}"
        print(f"{name:<34}{tally.trials:>7}{tally.landed:>8}{len(tally.found):>12}{times}", flush=True)
    for line in found[:20]:
        print(f"  {line}")
    print(f"{landed} faults landed, {len(found)} violations, seed {told.seed}")
    return len(found)


def main() -> None:
    """Read the options, open a stage, run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    options.add_argument("--quick", action="store_true")
    told = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with opened_stage(told.seed) as (stage, _):
        found = run_trials(stage, told)
    sys.exit(int(found > 0))


if __name__ == "__main__":
    main()
