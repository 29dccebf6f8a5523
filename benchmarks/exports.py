"""The export of all rows, as CSV and as NDJSON: seconds and memory, beside psql copying the same columns out of the same server."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cpu import cpu_of, cpu_of_tree, find_postmaster
from benchmarks.databases import filled
from benchmarks.results import seconds, table
from benchmarks.servers import Server, gunicorn, memory
from benchmarks.targets import Target, at_least, at_most
from shared.embedded_host import list_folders
from web.statements import COLUMNS

PIECE = 1 << 18
SELECTED = f"select {', '.join(COLUMNS)} from unified_data"
COPIES = {
    "psql, CSV": f"copy ({SELECTED}) to stdout (format csv, header)",
    "psql, row_to_json": f"copy (select row_to_json(d) from ({SELECTED}) d) to stdout (format csv, delimiter E'\\x01', quote E'\\x02')",
}


@dataclass(frozen=True, slots=True)
class Export:
    """Seconds, megabytes sent, processor seconds of gunicorn or psql and of Postgres; how many MB a worker's peak rose."""

    name: str
    seconds: float
    megabytes: float
    client_cpu: float
    server_cpu: float
    grown: float | None = None


def measure(bench: Bench) -> dict[str, Any]:
    """Export all rows in each form, each beside psql, in turn."""
    found: dict[str, list[Export]] = {}
    with filled(bench.dsn, bench.rows) as dsn, gunicorn("web.wsgi:app", dsn, bench.folder / "export.log") as server:
        postmaster = find_postmaster(dsn)
        download(server, "csv", postmaster)
        for _ in range(bench.rounds):
            psql = (copied(dsn, name, postmaster) for name in COPIES)
            for told in (download(server, "csv", postmaster), *psql, download(server, "ndjson", postmaster)):
                found.setdefault(told.name, []).append(told)
    return {"rows": bench.rows, "exports": [asdict(middle(all_of)) for all_of in found.values()]}


def middle(rounds: list[Export]) -> Export:
    """The medians of the rounds; of the memory the most."""
    took, client, server = (median(getattr(each, name) for each in rounds) for name in ("seconds", "client_cpu", "server_cpu"))
    grown = max((each.grown for each in rounds if each.grown is not None), default=None)
    return Export(rounds[0].name, took, rounds[0].megabytes, client, server, grown)


def download(server: Server, form: str, postmaster: int) -> Export:
    """Fetch an export of ours; the memory is that of the worker that grew the most."""
    before = {pid: (reset_peak(pid), cpu_of(pid)) for pid in server.workers()}
    conn, used = http.client.HTTPConnection(*server.address, timeout=900), cpu_of_tree(postmaster)
    began, size = time.perf_counter(), 0
    conn.request("GET", f"/data/export?format={form}")
    response = conn.getresponse()
    if response.status != 200:
        raise RuntimeError(response.read(2000).decode())
    while piece := response.read(PIECE):
        size += len(piece)
    took = time.perf_counter() - began
    conn.close()
    client = sum(cpu_of(pid) - earlier for pid, (_, earlier) in before.items())
    grown = max(memory(pid, "VmHWM") - held for pid, (held, _) in before.items())
    return Export(f"ours, {form.upper()}", took, size / 1e6, client, cpu_of_tree(postmaster) - used, grown)


def copied(dsn: str, name: str, postmaster: int) -> Export:
    """Let psql write the same to nowhere."""
    used, began, size = cpu_of_tree(postmaster), time.perf_counter(), 0
    command = [find_psql(), "-qX", "-v", "ON_ERROR_STOP=1", "-c", COPIES[name], dsn]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    while piece := process.stdout.read(PIECE):
        size += len(piece)
    process.stdout.close()
    _, status, spent = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"psql ended with {process.returncode}")
    return Export(name, took, size / 1e6, spent.ru_utime + spent.ru_stime, cpu_of_tree(postmaster) - used)


def find_psql() -> str:
    """psql of the machine, or that which comes with the embedded server."""
    folders = (str(folder) for folder in list_folders())
    return shutil.which("psql") or next(found for folder in folders if (found := shutil.which("psql", path=folder)))


def reset_peak(pid: int) -> float:
    """Let a process's peak begin anew; return what it holds now, in megabytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid)


def tell(found: dict[str, Any]) -> list[str]:
    """Seconds, speed, processor time, memory."""
    lines = []
    for each in found["exports"]:
        cpu = (seconds(each[side]) if side in each else "" for side in ("client_cpu", "server_cpu"))
        speed = f"{found['rows'] / each['seconds']:,.0f}"
        grown = "" if each["grown"] is None else f"{each['grown']:.1f}"
        lines.append((each["name"], seconds(each["seconds"]), speed, f"{each['megabytes']:.0f}", *cpu, grown))
    return [
        "## Export of all rows",
        table(("", "seconds", "rows/s", "MB", "CPU s of gunicorn or psql", "CPU s of Postgres", "memory, + MB"), lines),
        "The memory is how far the peak of a worker went above what it held before, at worst.",
    ]


def judge(found: dict[str, Any]) -> Iterator[Target]:
    """Speed against psql's copy, and memory."""
    by = {each["name"]: each for each in found["exports"]}
    for form in ("CSV", "NDJSON"):
        ours = by[f"ours, {form}"]
        yield at_least(f"export as {form}, against psql's copy as CSV", by["psql, CSV"]["seconds"] / ours["seconds"], 0.5)
        yield at_most(f"export as {form}, memory of the worker beyond what it held", ours["grown"], 10, " MB")
