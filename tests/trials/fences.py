"""Zombies: a run is stopped somewhere, another takes its source over and finishes, and the first wakes up."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from etl import load
from etl.batch import Batch
from etl.lease import Counts, Run
from etl.source import Source
from shared.db import Connection, LockTimeout, connect
from sql import queries
from tests.trials.mutants import patch
from tests.trials.stage import Stage, Tally, count_points, holder, stopping, until

ZOMBIE_KINDS = ("csv", "coinpaprika", "rss", "coingecko")
OPEN = b"select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null"
OTHERS = b"select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
EXPIRE = b"update etl_checkpoints set lease_expires_at = clock_timestamp() - interval '1 s' where lease_expires_at is not null"
OURS = b"select tablename from pg_tables where schemaname = 'public' and tablename <> 'etl_rate_limits' order by 1"


def everything(dsn: str) -> dict[str, Any]:
    """A digest of every table that a run may write."""
    with connect(dsn, "oracle") as conn:
        names = [row["tablename"] for row in conn.execute(OURS).fetchall()]
        digest = "select md5(string_agg(t::text, '|' order by t::text)) as digest from {} t"
        return {name: conn.execute(digest.format(name).encode()).fetchall() for name in names}


def expire(dsn: str, kind: str) -> tuple[int | None, bool]:
    """Let the lease run out, and the server end a session that sleeps in a transaction, if it does within three seconds.

    Returns the run that held the lease, and whether a transaction was open.
    """
    with connect(dsn, "oracle") as conn:
        row = conn.execute(OPEN).fetchone()
        held = holder(conn, kind)
        conn.execute(b"set lock_timeout = '50ms'")
        with suppress(LockTimeout):
            conn.execute(EXPIRE)
        inside = bool(row and row["count"])
        if inside:
            with suppress(TimeoutError):
                until(lambda: conn.execute(OTHERS).fetchone() is None or None, 3)
    return held, inside


def zombie(stage: Stage, kind: str, prepare: Callable[[], None]) -> tuple[str, bool, list[str], str] | None:
    """One trial; None when the run was through before it stopped. Returns where it stopped, whether as holder, what was wrong."""
    dsn = stage.world.copy("blank", "zombie")
    pid = stage.start(dsn, kind, prepare)
    if stage.changed(pid) is not None:
        return None
    held, inside = expire(dsn, kind)
    place = "inside" if inside else "between"
    taker = stage.start(dsn, kind, patient)
    if second := stage.changed(taker):
        stage.end(pid)
        return place, held is not None, [f"the second run ended with exit {second}: {last_words(stage, taker)}"], dsn
    wrong, before = list[str](), everything(dsn)
    code = stage.go_on(pid)
    if held is not None:
        wrong += [f"the zombie wrote to {name}" for name, digest in everything(dsn).items() if digest != before[name]]
        wrong += woken(dsn, held, code, last_words(stage, pid))
    return place, held is not None, wrong, dsn


def patient() -> None:
    """Let a run wait for a lock for one second, not for ten or four: whoever was to be ended by the server was."""
    for name, long in (("bound_batch", b"'10s'"), ("bound_load", b"'4s'")):
        assert long in queries[name]
        queries[name] = queries[name].replace(long, b"'1s'")


def last_words(stage: Stage, pid: int) -> str:
    """The last line that a run wrote."""
    return (stage.said(pid).read_text().strip().splitlines() or [""])[-1]


def woken(dsn: str, run_id: int, code: int | None, said: str) -> list[str]:
    """What is wrong with how a zombie ended: it must fail, and its run be abandoned."""
    with connect(dsn, "oracle") as conn:
        row = conn.execute(b"select status from etl_runs where id = %s", [run_id]).fetchone()
    status = row["status"] if row else "missing"
    wrong = [] if code == 3 else [f"the zombie ended with exit {code}, not 3: {said}"]
    return wrong + ([] if status == "abandoned" else [f"the zombie's run is {status}, not abandoned"])


def zombies(stage: Stage, *, fence: bool = True) -> dict[str, Tally]:
    """Stop runs after every batch, and at points spread over their length: in full at every third one."""
    tallies = {"between": Tally(), "anywhere": Tally()}
    for kind in ZOMBIE_KINDS if stage.full else ZOMBIE_KINDS[:2]:
        points = count_points(stage, kind)
        step = 3 if stage.full else max(1, points // 7)
        plan = [("between", n, after_batch(n, fence=fence)) for n in range(1, 40 if stage.full else 7)]
        plan += [("anywhere", n, stopping(n, short=True, fence=fence)) for n in range(1 + stage.dice.randrange(step), points, step)]
        for name, number, prepare in plan:
            done = zombie(stage, kind, prepare)
            if done:
                where, held, wrong, dsn = done
                tallies[name].landed += held
                label = f"zombie {kind}, stopped {name} {number} ({where})"
                if fence:
                    stage.judge(tallies[name], dsn, kind, label, wrong)
                else:  # a lease that such a zombie renewed would be waited for
                    tallies[name].trials += 1
                    tallies[name].found += [f"{label}: {what}" for what in wrong if "wrote" in what]
    return tallies


def after_batch(number: int, *, fence: bool) -> Callable[[], None]:
    """Make the preparation of a run that stops itself after a batch."""

    def prepare() -> None:
        stopping(0, short=True, fence=fence)()
        original, seen = load.commit, list[int]()

        def commit(conn: Connection, source: Source, run: Run, batch: Batch) -> tuple[Run, Counts]:
            done = original(conn, source, run, batch)
            seen.append(1)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGSTOP)
            return done

        patch("commit", commit)

    return prepare
