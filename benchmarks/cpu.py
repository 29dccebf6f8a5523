"""What a command costs: seconds, the processor time of both sides, peak memory. `measured(command, env, dsn)` is all that a case needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from shared.db import connect

TICK = os.sysconf("SC_CLK_TCK")
LAUNCHER = """
import json, os, sys, time
out = int(sys.argv[1])
os.set_inheritable(out, False)
began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
facts = [time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]
os.write(out, json.dumps(facts).encode())
"""
"""Starts the command from a small process: a process inherits the peak of the one it was started by."""


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds; processor seconds of the client with its children and of all of the server; peak MB of the client's largest process."""

    seconds: float
    client_cpu: float
    server_cpu: float
    memory: float


def measured(
    command: Sequence[str | Path], env: Mapping[str, str], dsn: str, *, stdin: str | None = None, times: int = 1, cwd: Path | None = None
) -> Used:
    """Run a command, or so many of the same at once, and tell what it cost. Raises RuntimeError with its last words when it fails."""
    postmaster = find_postmaster(dsn)
    before = cpu_of_tree(postmaster)
    with ThreadPoolExecutor(times) as pool:
        each = list(pool.map(lambda _: launched(command, env, stdin, cwd), range(times)))
    seconds, client, memory = zip(*each, strict=True)
    return Used(max(seconds), sum(client), cpu_of_tree(postmaster) - before, sum(memory))


def launched(command: Sequence[str | Path], env: Mapping[str, str], stdin: str | None, cwd: Path | None) -> tuple[float, float, float]:
    """Seconds, processor seconds and megabytes of one command."""
    read, write = os.pipe()
    started = [sys.executable, "-SEc", LAUNCHER, str(write), *map(str, command)]
    try:
        done = subprocess.run(
            started, env=dict(env), input=stdin, capture_output=True, text=True, errors="replace", pass_fds=[write], cwd=cwd, check=False
        )
        os.close(write)
        seconds, cpu, memory, code = json.loads(os.read(read, 4096) or b"[0, 0, 0, -1]")
    finally:
        os.close(read)
    if code:
        raise RuntimeError(f"{Path(command[0]).name} ended with {code}: {(done.stdout + done.stderr)[-2000:]}")
    return seconds, cpu, memory


def medians(rounds: Sequence[Used]) -> Used:
    """The median of each figure; of the memory the most."""
    seconds, client, server = (median(getattr(each, name) for each in rounds) for name in ("seconds", "client_cpu", "server_cpu"))
    return Used(seconds, client, server, max(each.memory for each in rounds))


def find_postmaster(dsn: str) -> int:
    """The process that all processes of a server on this machine descend from."""
    with connect(dsn, "benchmark") as conn:
        return int(Path(f"/proc/{conn.info.backend_pid}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_of_tree(pid: int) -> float:
    """Processor seconds of a process, of its children, and of those of its children that have ended."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_of(pid, ended=True) + sum(cpu_of(int(child)) for child in children)


def cpu_of(pid: int, *, ended: bool = False) -> float:
    """Processor seconds of a process, user and system; 0 when it is gone. With `ended`, of its waited-for children too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11 : 15 if ended else 13])) / TICK
