"""Silences: the network to the database dies without a word in the middle of a run, which has to end or go on within a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.db import connect
from tests.trials import blackhole
from tests.trials.real import command
from tests.trials.resumes import FAST, SLOW, Timed, begun, judge
from tests.trials.stage import Stage, until
from tests.trials.stops import PLATFORM, ended
from tests.trials.world import KINDS

BOUND = 90.0
"""Seconds: a dead network is noticed within 25, a transaction that sleeps on the server is ended after 30, and the rest is the run."""


@dataclass(frozen=True)
class Silenced:
    """How a run ended whose network died, and how many seconds later."""

    landed: bool
    code: int | None
    seconds: float


@contextmanager
def lent(stage: Stage, name: str) -> Iterator[tuple[str, blackhole.Hole]]:
    """A database whose batches are slow, and the relay in front of it."""
    dsn = stage.world.copy("blank", name)
    hole = blackhole.opened(dsn)
    try:
        with connect(dsn, "oracle") as conn:
            conn.execute(SLOW)
            yield dsn, hole
            conn.execute(b"set lock_timeout = '60s'")
            hole.close()
            conn.execute(FAST)
    finally:
        hole.close()


def going_on(stage: Stage, dsn: str, hole: blackhole.Hole, kind: str) -> Silenced:
    """Let the network of one run die for the connections there are; a new connection passes."""
    with connect(dsn, "oracle") as conn, command(stage, hole.address, kind) as process:
        landed = begun(stage, conn, process, kind)
        hole.swallow()
        started = time.monotonic()
        code = until(process.poll, 2 * BOUND)
        return Silenced(landed, code, time.monotonic() - started)


def stopped(stage: Stage, dsn: str, hole: blackhole.Hole, kind: str) -> Silenced:
    """Let the network of one run die for good, and ask the run to end."""
    with connect(dsn, "oracle") as conn, command(stage, hole.address, kind) as process:
        landed = begun(stage, conn, process, kind)
        hole.swallow(for_good=True)
        return Silenced(landed, *ended(process))


def silences(stage: Stage, work: Callable[[Stage, str, blackhole.Hole, str], Silenced], code: int, bound: float) -> Timed:
    """Do one of these with all kinds at the same time, then let the next run finish and compare."""
    tally, seen, threads = Timed(), dict[str, Silenced](), list[threading.Thread]()

    def one(kind: str) -> None:
        with lent(stage, f"silent_{kind}") as (dsn, hole):
            seen[kind] = work(stage, dsn, hole, kind)

    pictures = {kind: stage.clean(kind) for kind in KINDS}
    threads = [threading.Thread(target=one, args=(kind,)) for kind in KINDS]
    for thread in threads:
        thread.start()
        time.sleep(1)  # two copies of one template cannot be made at once
    for thread in threads:
        thread.join()
    for kind in KINDS:
        end = seen.get(kind, Silenced(False, None, 0))
        wrong = [] if end.code == code or not end.landed else [f"exit {end.code}"]
        wrong += [f"took {end.seconds:.1f} s"] if end.seconds > bound else []
        dsn = stage.world.server.replace("/kasparro?", f"/silent_{kind}?")
        tally.landed += end.landed
        tally.seconds += [end.seconds] if end.landed else []
        if code == 0:
            judge(tally, dsn, pictures[kind], f"silent network, {kind}", wrong)
        else:
            stage.judge(tally, dsn, kind, f"stop in a silent network, {kind}", wrong)
    return tally


def goes_on(stage: Stage) -> Timed:
    """Runs whose connection vanishes."""
    return silences(stage, going_on, 0, BOUND)


def stops_anyway(stage: Stage) -> Timed:
    """Runs that are asked to end while the network is dead."""
    return silences(stage, stopped, 143, PLATFORM)
