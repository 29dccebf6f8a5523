"""Resume times: a run is killed in the middle of a load, the next one starts at once, and its first commit is waited for."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

from shared.db import Connection, connect
from tests.trials import blackhole
from tests.trials.oracle import picture, violations
from tests.trials.real import command
from tests.trials.stage import Stage, Tally, holder, until
from tests.trials.world import KINDS, World, stamp

SLOW = b"""
create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.02); return null; end';
create trigger slow after insert or update on etl_batches for each statement execute function slow()
"""
FAST = b"drop trigger slow on etl_batches; drop function slow"
"""Batches of a trial's small payloads would be over too soon to be hit."""
LINES = 100_000


@dataclass
class Timed(Tally):
    """What came of trials that take a time."""

    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Large(World):
    """A world whose CSV file is large."""

    def environ(self, step: int) -> dict[str, str]:
        environ = World.environ(self, step)
        (self.folder / "a.csv").unlink()
        path = self.folder / "large.csv"
        if not path.exists():
            rows = "".join(f"L{n},Name {n},{n}.50,{stamp(n)}\n" for n in range(LINES))
            path.write_text("symbol,name,price,last_updated\n" + rows)
        return environ


def committed(conn: Connection, kind: str) -> int:
    """How many batches of a source were ever committed."""
    row = conn.execute(b"select count(*) as n from etl_batches where source = %s", [kind]).fetchone()
    return int(row["n"]) if row else 0


def begun(stage: Stage, conn: Connection, process: subprocess.Popen[bytes], kind: str) -> bool:
    """Wait until a run has committed some batches and is on its way to the next; whether it is still under way."""
    batches = stage.dice.randrange(1, 4)
    until(lambda: True if process.poll() is not None or committed(conn, kind) >= batches else None)
    time.sleep(stage.dice.uniform(0, 0.03))
    return process.poll() is None and holder(conn, kind) is not None


def resumes(stage: Stage, kind: str, rounds: int, batch: int | None = None) -> Timed:
    """Kill runs so that the server learns of it, as of any process that dies; time each next run to its first commit."""
    tally, clean = Timed(), picture_of(stage, kind, batch)
    for number in range(rounds):
        dsn = stage.world.copy("blank", "resumed")
        with connect(dsn, "oracle") as conn:
            conn.execute(SLOW)
            with command(stage, dsn, kind, batch) as process:
                landed = begun(stage, conn, process, kind)
                process.kill()
                process.wait()
            landed = landed and process.returncode == -signal.SIGKILL
            wrong, seconds = restarted(stage, conn, dsn, kind, batch)
            conn.execute(FAST)
        tally.landed += landed
        tally.seconds += [seconds] if landed else []
        judge(tally, dsn, clean, f"resume of {kind}, round {number + 1}", wrong)
    return tally


def judge(tally: Tally, dsn: str, clean: dict[str, Any], label: str, wrong: list[str]) -> None:
    """Note what does not hold after the next run alone."""
    tally.trials += 1
    tally.found += [f"{label}: {name}" for name in wrong + violations(dsn, clean)]


def picture_of(stage: Stage, kind: str, batch: int | None) -> dict[str, Any]:
    """The tables after a run that nothing happened to, in batches of the size given."""
    if batch is None:
        return stage.clean(kind)
    dsn = stage.world.copy("blank", "clean")
    with command(stage, dsn, kind, batch) as process:
        until(process.poll)
    return picture(dsn)


def restarted(stage: Stage, conn: Connection, dsn: str, kind: str, batch: int | None) -> tuple[list[str], float]:
    """Start the next run and wait for its first commit; returns what was wrong and the seconds from its start to that commit."""
    row = conn.execute(b"select coalesce(max(id), 0) as id from etl_runs").fetchone()
    killed, started = row["id"] if row else 0, time.monotonic()

    def first() -> bool | None:
        found = conn.execute(b"select from etl_batches where run_id > %s limit 1", [killed]).fetchone()
        return True if found is not None or process.poll() is not None else None

    with command(stage, dsn, kind, batch) as process:
        until(first)
        seconds = time.monotonic() - started
        code = until(process.poll)
    return ([] if code == 0 else [f"the next run ended with {code}"]), seconds


def silent(stage: Stage, kinds: tuple[str, ...] = KINDS) -> Timed:
    """Kill runs behind a network that tells the server nothing, all kinds at the same time: the lease has to run out."""
    tally = Timed()
    told = [(kind, stage.world.copy("blank", f"silent_{kind}")) for kind in kinds]
    holes = []
    try:
        for kind, dsn in told:
            hole = blackhole.opened(dsn)
            holes.append(hole)
            with connect(dsn, "oracle") as conn, command(stage, hole.address, kind) as process:
                conn.execute(SLOW)
                landed = begun(stage, conn, process, kind)
                hole.swallow()
                process.kill()
            tally.landed += landed
        next_runs(stage, tally, told)
    finally:
        for hole in holes:
            hole.close()
    for kind, dsn in told:
        with connect(dsn, "oracle") as conn:
            conn.execute(FAST)
        judge(tally, dsn, stage.clean(kind), f"silent death of {kind}", [])
    return tally


def next_runs(stage: Stage, tally: Timed, told: list[tuple[str, str]]) -> None:
    """Start the next run of every kind at once and note when each commits for the first time."""
    started, waiting = time.monotonic(), []
    for kind, dsn in told:
        conn, runs = connect(dsn, "oracle"), command(stage, dsn, kind)
        waiting.append((kind, conn, runs, runs.__enter__(), committed(conn, kind)))
    try:
        for kind, conn, _, process, before in waiting:
            until(lambda conn=conn, kind=kind, before=before: True if committed(conn, kind) > before else None, 150)  # type: ignore[misc]
            tally.seconds.append(time.monotonic() - started)
            if (code := until(process.poll)) != 0:
                tally.found.append(f"the run after the silent death of {kind} ended with {code}")
    finally:
        for _, conn, runs, _, _ in waiting:
            runs.__exit__(None, None, None)
            conn.close()
