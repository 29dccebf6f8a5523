"""The servers that are measured: gunicorn as `make serve` runs it, and the peers under uvicorn in an environment of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
GUNICORN = ("-m", "gunicorn", "-c", "python:web.gunicorn_conf")
UVICORN = ("-m", "uvicorn", "--workers", "2", "--no-access-log", "--log-level", "warning", "benchmarks.peers.app:app")
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server under measurement: where it listens, and the process all of it descends from."""

    address: tuple[str, int]
    pid: int

    def workers(self) -> list[int]:
        """The processes that answer: the larger of the parent's children."""
        children = [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return [pid for pid in children if memory(pid) > 20]


@contextmanager
def gunicorn(app: str, dsn: str, log: Path) -> Iterator[Server]:
    """Serve an app under gunicorn as `make serve` does."""
    port = free_port()
    with started([sys.executable, *GUNICORN, app], {"DATABASE_URL": dsn, "PORT": str(port)}, port, log) as server:
        yield server


@contextmanager
def peers(dsn: str, log: Path) -> Iterator[Server]:
    """Serve the peers under uvicorn with two workers."""
    port = free_port()
    with started([str(python_of_peers()), *UVICORN, "--port", str(port)], {"DATABASE_URL": dsn}, port, log) as server:
        yield server


@contextmanager
def started(command: list[str], settings: Mapping[str, str], port: int, log: Path) -> Iterator[Server]:
    """Start a server, wait until it listens, end it. Raises RuntimeError when it does not come up."""
    env = {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "LOG_FORMAT": "json", **settings}
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[2]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        time.sleep(0.5)
        yield Server(("127.0.0.1", port), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def python_of_peers() -> Path:
    """The interpreter of the peers' environment, made anew when the requirements changed."""
    pinned, folder = PEERS / "requirements.txt", PEERS / ".venv"
    mark, known = folder / "made-from", sha256(pinned.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != known:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pinned)]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        mark.write_text(known)
    return folder / "bin" / "python"


def memory(pid: int, field: str = "VmRSS") -> float:
    """Megabytes of a process: VmRSS now, VmHWM at its peak."""
    found = re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
