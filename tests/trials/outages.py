"""Outages: the server is killed or restarted under a run that goes on by itself, and a disk that is full."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared import embedded
from shared.db import connect
from shared.embedded_host import run as run_as
from tests.trials.oracle import picture, violations
from tests.trials.stage import Stage, Tally, count_points, held_by, stopping
from tests.trials.world import KINDS, in_child, run_kind, stamp

SETTINGS = {"fsync": "off"}
"""Commits wait for the operating system, which no trial kills, but not for the disk."""
LEFT = 400_000
"""Bytes that are left on the full disk before the run."""


def kill(stage: Stage, server: embedded.Server, pid: int) -> None:
    """Kill the postmaster, let the run notice, start the server again."""
    os.kill(int((server.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    embedded.stop(embedded.start(stage.home, settings=SETTINGS))


def restart(stage: Stage, server: embedded.Server, pid: int) -> None:
    """Restart the server without a clean end, the run going on meanwhile."""
    os.kill(pid, signal.SIGCONT)
    log = server.data / "restart.log"
    done = run_as(server.account, server.binaries / "pg_ctl", "-D", server.data, "-l", log, "-m", "immediate", "-w", "restart")
    if done.returncode:
        raise RuntimeError(f"the server did not restart: {done.stdout}")


def outages(stage: Stage, server: embedded.Server, *, restarts: bool) -> Tally:
    """Take the server away at points of a run; the same process must end well, in its one run."""
    tally = Tally()
    rounds = 12 if stage.full else (3, 2)[restarts]
    for kind in [KINDS[n % len(KINDS)] for n in range(rounds)]:
        points = count_points(stage, kind)
        at = stage.dice.randrange(points // 5, points)
        dsn = stage.world.copy("blank", "outage")
        pid = stage.start(dsn, kind, stopping(at))
        wrong, landed = list[str](), stage.changed(pid) is None
        if landed:
            held = held_by(dsn, kind)
            (restart if restarts else kill)(stage, server, pid)
            code = stage.changed(pid)
            if held is not None:
                tally.landed += 1
                wrong = [] if code == 0 else [f"exit {code}: {stage.said(pid).read_text()[-300:]}"]
                wrong += one_run(dsn)
        stage.judge(tally, dsn, kind, f"{'restart' if restarts else 'kill'} of the server, {kind} point {at}", wrong)
    return tally


def one_run(dsn: str) -> list[str]:
    """The run went on as itself: one row, and a good one."""
    with connect(dsn, "oracle") as conn:
        found = [row["status"] for row in conn.execute(b"select status from etl_runs").fetchall()]
    return [] if len(found) == 1 and found[0] in ("success", "partial") else [f"the runs ended {found}"]


@contextmanager
def small_disk(stage: Stage, server: embedded.Server) -> Iterator[Path | None]:
    """Mount a small disk that the server can write to; None when we may not."""
    place = stage.folder / "disk"
    place.mkdir(mode=0o711)
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "kasparro-trials", str(place)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        space = place / "space"
        space.mkdir(mode=0o700)
        if server.account:
            os.chown(space, *server.account)
        yield space
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def large_file(stage: Stage) -> dict[str, str]:
    """The settings of a run over a file that does not fit on the small disk."""
    folder = stage.folder / "large"
    folder.mkdir(exist_ok=True)
    rows = "".join(f"L{n},Name {n},{n}.50,{stamp(n)}\n" for n in range(4000))
    (folder / "large.csv").write_text("symbol,name,price,last_updated\n" + rows)
    return {"CSV_PATHS": str(folder / "*.csv")}


def disk_full(stage: Stage, server: embedded.Server) -> Tally | None:
    """Run until the disk of the tables is full, make room, resume. None when no disk can be mounted."""
    tally, environ = Tally(), large_file(stage)
    clean, dsn = stage.world.copy("blank", "clean"), stage.world.copy("blank", "narrow")
    with small_disk(stage, server) as space:
        if not space:
            return None
        try:
            in_child(lambda: run_kind(clean, "csv", environ))
            narrow(dsn, space)
            ballast = space.parent / "ballast"
            free = os.statvfs(space)
            ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - LEFT))
            pid = stage.start(dsn, "csv", lambda: None, environ, batch=100)
            code = stage.changed(pid)
            said = stage.said(pid).read_text().strip().splitlines()
            wrong = [] if code == 4 and len(said) == 1 else [f"exit {code} with {len(said)} lines: {said[-3:]}"]
            tally.trials, tally.landed = 1, int(code != 0)
            ballast.unlink()
            in_child(lambda: run_kind(dsn, "csv", environ))
            tally.found = [f"disk full: {name}" for name in wrong + violations(dsn, picture(clean))]
        finally:
            with connect(stage.world.server, "trials") as conn:
                conn.execute(b"drop database if exists narrow with (force)")
                conn.execute(b"drop tablespace if exists narrow")
    return tally


def narrow(dsn: str, space: Path) -> None:
    """Move the tables of a database to the small disk."""
    with connect(dsn, "trials") as conn:
        conn.execute(f"create tablespace narrow location '{space}'".encode())
        for what in (b"table", b"index"):
            conn.execute(b"alter " + what + b" all in tablespace pg_default set tablespace narrow")
        conn.execute(b"checkpoint")
