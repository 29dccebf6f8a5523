"""What trials with real processes share: the command line in processes of its own, waiting with a bound, and the verdict."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from etl import lease, load
from etl.cli import main as cli
from shared.db import Connection, connect
from sql import queries
from tests.trials.oracle import picture, violations
from tests.trials.points import Points, instrument
from tests.trials.world import BATCH, World, in_child, run_kind

T = TypeVar("T")
PATIENCE = 90.0
"""Seconds after which a process that does not move is a failure of the trial itself."""


@dataclass
class Tally:
    """What came of some trials."""

    trials: int = 0
    landed: int = 0
    found: list[str] = field(default_factory=list)


@dataclass
class Stage:
    """Where trials happen; `children` are the processes to be ended whatever happens."""

    world: World
    home: Path
    folder: Path
    dice: random.Random
    full: bool
    children: set[int] = field(default_factory=set)
    pictures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def said(self, pid: int) -> Path:
        """Where a forked run wrote its output."""
        return self.folder / f"said-{pid}"

    def clean(self, kind: str) -> dict[str, Any]:
        """The tables after a run that nothing happened to."""
        if kind not in self.pictures:
            dsn, environ = self.world.copy("blank", "clean"), self.world.environ(0)
            in_child(lambda: run_kind(dsn, kind, environ))
            self.pictures[kind] = picture(dsn)
        return self.pictures[kind]

    def judge(self, tally: Tally, dsn: str, kind: str, label: str, wrong: list[str]) -> None:
        """Resume to the end without a fault and note what does not hold, beside what was already seen to be wrong."""
        environ = self.world.environ(0)
        status, error = in_child(lambda: run_kind(dsn, kind, environ))
        bad = wrong + violations(dsn, self.clean(kind))
        bad += [] if status in ("success", "partial") else [f"I7 the resumed run ended {status}: {error}"]
        tally.trials += 1
        tally.found += [f"{label}: {name}" for name in bad]

    def fork(self, work: Callable[[], Any]) -> int:
        """Do a piece of work in a process that ends with it; return its pid."""
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = work() or 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 70
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        self.children.add(pid)
        return pid

    def start(self, dsn: str, kind: str, prepare: Callable[[], Any], environ: dict[str, str] | None = None, batch: int = BATCH) -> int:
        """Start the command line on a database in a forked process, after some preparation there; return its pid."""
        settings = (environ or self.world.environ(0)) | {"DATABASE_URL": dsn, "PATH": os.defpath}

        def work() -> None:
            said = os.open(self.said(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.environ.clear()
            os.environ.update(settings)
            sys.argv = ["kasparro-etl", "run", "--source", kind, "--batch-size", str(batch)]
            prepare()
            cli()

        return self.fork(work)

    def changed(self, pid: int) -> int | None:
        """Wait until a child stops or ends; its exit code, -N for a signal, None when it stopped. Raises TimeoutError."""

        def look() -> int | None:
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            return status if found else None

        status = until(look)
        if os.WIFSTOPPED(status):
            return None
        self.children.discard(pid)
        return os.waitstatus_to_exitcode(status)

    def go_on(self, pid: int) -> int | None:
        """Let a stopped child go on, and wait for what becomes of it."""
        os.kill(pid, signal.SIGCONT)
        return self.changed(pid)

    def end(self, pid: int) -> None:
        """End a child at once, stopped or not."""
        os.kill(pid, signal.SIGKILL)
        self.changed(pid)

    def end_children(self) -> None:
        """End what is left of our processes."""
        for pid in list(self.children):
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            self.children.discard(pid)


def until(look: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """Look again and again until there is something to see. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while (seen := look()) is None:
        if time.monotonic() > end:
            raise TimeoutError("a process of the trial did not move")
        time.sleep(0.002)
    return seen


def stopping(at: int, *, short: bool = False, fence: bool = True) -> Callable[[], None]:
    """Make the preparation of a run that stops at a point; `short`: its lease and the patience of the server are one second at most."""

    def stop_here(points: Points) -> None:
        points.seen += 1
        if points.seen == points.at:
            os.kill(os.getpid(), signal.SIGSTOP)

    def prepare() -> None:
        if short:
            for name in ("bound_batch", "bound_load"):
                queries[name] = queries[name].replace(b"'30s'", b"'500ms'").replace(b"'60s'", b"'2s'")
                assert b"500ms" in queries[name]
            for owner in (lease, load):
                setattr(owner, "TTL", 1.0)  # noqa: B010
        if not fence:
            whole = queries["advance_checkpoint"]
            queries["advance_checkpoint"] = whole.replace(b" and epoch = %(epoch)s and seq = %(seq)s", b"")
            assert queries["advance_checkpoint"] != whole
        setattr(Points, "pass_by", stop_here)  # noqa: B010
        instrument(at)

    return prepare


def holder(conn: Connection, kind: str) -> int | None:
    """The open run that holds the lease of a source as everybody sees it, or None."""
    row = conn.execute(
        b"select c.run_id from etl_checkpoints c join etl_runs r on r.id = c.run_id"
        b" where c.source = %s and c.lease_expires_at is not null and r.status = 'running'",
        [kind],
    ).fetchone()
    return int(row["run_id"]) if row else None


def held_by(dsn: str, kind: str) -> int | None:
    """The same, over a connection of its own."""
    with connect(dsn, "oracle") as conn:
        return holder(conn, kind)


def count_points(stage: Stage, kind: str) -> int:
    """How many points a whole run passes."""
    dsn, environ = stage.world.copy("blank", "counted"), stage.world.environ(0)

    def work() -> int:
        points = instrument(0)
        run_kind(dsn, kind, environ)
        return points.seen

    return int(in_child(work))
