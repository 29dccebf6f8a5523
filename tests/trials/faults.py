"""Trials: the real command line against an upstream that misbehaves in every way we know.

    python -m tests.trials.faults [--only U4,X7] [--jobs N] [--upstream FILE]

Each fault has an upstream, a database and a process of its own; the slow ones wait as long as a real run would, side by side.
Prints a table and exits 1 when an expectation does not hold. `--upstream` adds faults of a stand-in that is told by `POST /__control`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared import embedded
from shared.db import connect
from shared.migrations import migrate
from tests.trials.faultlist import Fault, all_faults
from tests.trials.hostile import Upstream
from tests.trials.standin import run_standin

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "60"}
KEY = "CANARY"
MOST_MEMORY = 200
PATHS = {"coinpaprika": "", "coingecko": "", "rss": "/feed"}
SETTING = {"coinpaprika": "COINPAPRIKA_BASE_URL", "coingecko": "COINGECKO_BASE_URL", "rss": "RSS_FEED_URLS"}
copying, numbers = threading.Lock(), itertools.count(1)


@dataclass(frozen=True)
class Result:
    """How one process ended; memory in MB, of the largest of its processes."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int

    @property
    def run(self) -> dict[str, object]:
        """What `--json` says of the run."""
        lines = [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]
        return next((line for line in lines if line.get("type") == "run"), {})


@dataclass(frozen=True)
class Stage:
    """Where the trials happen: a server with a migrated template, and a folder."""

    server: str
    template: str
    folder: Path

    def database(self) -> str:
        """Make a fresh database and return its address."""
        name = f"{self.template}_{next(numbers)}"
        with copying, connect(self.server, "trials") as conn:
            conn.execute(f"create database {name} template {self.template}".encode())
        return self.server.replace("/kasparro?", f"/{name}?")


def command(source: str, environ: dict[str, str], folder: Path) -> Result:
    """Run the command line for one source."""
    bare = {"PATH": os.defpath, "HOME": str(folder), "COINPAPRIKA_API_KEY": KEY, "COINGECKO_API_KEY": KEY, "COINGECKO_RATE_LIMIT": "1000/1"}
    program = [str(Path(sys.executable).parent / "kasparro-etl"), "run", "--source", source, "--json"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process, memory = subprocess.Popen(program, env=bare | environ, cwd=folder, stdout=out, stderr=err), 0
        while process.poll() is None:
            memory = max(memory, memory_of(process.pid))
            time.sleep(0.02)
        seconds = time.monotonic() - started
        return Result(process.returncode, text_of(out), text_of(err), seconds, memory)


def memory_of(pid: int) -> int:
    """MB that a process and its children, which share much of it, hold at the most; the largest of them (Linux only)."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text()
        peak = next((int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)
        return max([peak, *(memory_of(int(child)) for child in children)])
    return 0


def text_of(file: IO[bytes]) -> str:
    """All that was written to a file."""
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def run_fault(dsn: str, folder: Path, fault: Fault) -> tuple[str, list[str]]:
    """Run one fault on a fresh database; return its row of the table and what does not hold."""
    upstream = Upstream(fault.answer, certificate(folder, fault.tls) if fault.tls else None)
    scheme = "https" if fault.tls else "http"
    address = f"{scheme}://{fault.host}:{upstream.port}{PATHS[fault.source]}"
    trusted = {"REQUESTS_CA_BUNDLE": str(folder / f"{fault.tls}.pem")} if fault.tls in ("expired", "wrong host") else {}
    environ = {"DATABASE_URL": dsn, SETTING[fault.source]: address, **trusted, **fault.environ}
    try:
        if fault.seed:
            upstream.answer = fault.seed
            command(fault.source, environ, folder)
            upstream.asked.clear()
            upstream.answer = fault.answer
        result = command(fault.source, environ, folder)
    finally:
        upstream.close()
    wrong = judge(fault, result, dsn, len(upstream.asked))
    return row(f"{fault.id} {fault.label}", result, len(upstream.asked)), [f"{fault.id} {fault.label}: {text}" for text in wrong]


def row(label: str, result: Result, requests: int) -> str:
    """One line of the table."""
    told = str(result.run.get("error_message") or "").replace("|", "\\|")
    happened = f"exit {result.code}, {result.run.get('status')}{f': {told}' if told else ''}"
    return f"| {label} | {happened[:230]} | {requests} | {result.seconds:.1f} | {result.memory} |"


def judge(fault: Fault, result: Result, dsn: str, requests: int) -> list[str]:
    """Everything that does not hold after a fault."""
    wrong, run = [], result.run
    code, told = (0 if fault.status in ("success", "partial") else 3), str(run.get("error_message") or "")
    fewest, most = (fault.requests, fault.requests) if isinstance(fault.requests, int) else fault.requests
    with connect(dsn, "trials") as conn:
        kept = conn.execute("select count(*) as n from raw_payloads where run_id = %s", [run.get("id")]).fetchone() or {}
        served = conn.execute("select count(*) as n from unified_data").fetchone() or {}
        texts = str(conn.execute("select error_message from etl_runs").fetchall()) + str(
            conn.execute("select url from raw_payloads").fetchall()
        )
        odd = conn.execute(fault.sql.encode()).fetchall() if fault.sql else []
    facts = {
        "exit": (result.code, code),
        "status": (run.get("status"), fault.status),
        "payloads stored": (kept.get("n"), fault.stored),
        "served": (served.get("n"), fault.served),
        "rows that must not be": (len(odd), 0),
        "a key told": (KEY in result.out + result.err + texts, False),
        "a traceback": ("Traceback" in result.err, False),
        "the message's words": (fault.told in told, True),
        "lines": (len(told.splitlines()) <= 1, True),
        "memory": (result.memory < MOST_MEMORY, True),
        "requests": (fewest <= requests <= most, True),
    }
    wrong += [f"{name}: {found!r} instead of {wanted!r}" for name, (found, wanted) in facts.items() if found != wanted]
    return [f"{text} ({told or result.err[-300:]}; {requests} requests, {result.memory} MB)" for text in wrong]


CA = """[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nx509_extensions=e
[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:NAME\n"""


def certificate(folder: Path, kind: str) -> ssl.SSLContext:
    """Make the certificate of one kind with openssl, signed by itself, and what serves it."""
    place, name = folder / f"{kind} tls", "elsewhere.example" if kind == "wrong host" else "localhost"
    place.mkdir()
    for file, text in (("index", ""), ("serial", "01"), ("config", CA.replace("NAME", name))):
        (place / file).write_text(text)
    until = "20200201000000Z" if kind == "expired" else "20991231000000Z"
    asked = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "csr", "-subj", f"/CN={name}"]
    signed = ["ca", "-config", "config", "-selfsign", "-keyfile", "key", "-in", "csr", "-out", "pem", "-batch", "-notext"]
    for words in (asked, [*signed, "-startdate", "20200101000000Z", "-enddate", until]):
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)
    shutil.copy(place / "pem", folder / f"{kind}.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "pem", place / "key")
    return context


def run_faults(stage: Stage, faults: list[Fault], jobs: int) -> list[str]:
    """Run faults side by side, the slow ones first; print the table; return what does not hold."""
    print("| fault | what happened | requests | seconds | peak memory MB |\n|---|---|---|---|---|", flush=True)
    order = sorted(faults, key=lambda fault: fault.id != "U5")
    with ThreadPoolExecutor(jobs) as pool:
        results = dict(zip(map(id, order), pool.map(lambda fault: run_fault(stage.database(), stage.folder, fault), order), strict=True))
    for fault in faults:
        print(results[id(fault)][0])
    return [text for fault in faults for text in results[id(fault)][1]]


def main() -> None:
    """Read the options, make the server, run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="")
    options.add_argument("--jobs", type=int, default=8)
    options.add_argument("--upstream", type=Path)
    told = options.parse_args()
    wanted = [name for name in told.only.split(",") if name]
    faults = [fault for fault in all_faults() if not wanted or fault.id in wanted]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="kasparro-faults-"))
    folder.chmod(0o711)
    try:
        with embedded.serve(folder / "home", settings=FAST) as dsn:
            with connect(dsn, "trials") as conn:
                conn.execute(b"create database faults")
            with connect(dsn.replace("/kasparro?", "/faults?"), "trials") as conn:
                migrate(conn)
            stage = Stage(dsn, "faults", folder)
            wrong = run_faults(stage, faults, told.jobs)
            if told.upstream:
                wrong += run_standin(
                    told.upstream, lambda source, told: command(source, told | {"DATABASE_URL": stage.database()}, folder), row
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(faults)} faults, {len(wrong)} violations", *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
