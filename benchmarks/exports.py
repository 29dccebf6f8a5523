"""The export of all rows, as CSV and as NDJSON: seconds and memory, beside psql copying the same columns out of the same server."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.servers import Server, gunicorn, memory
from shared.embedded_host import list_folders
from web.queries import COLUMNS

PIECE = 1 << 18
SELECTED = f"select {', '.join(COLUMNS)} from unified_data"
COPIES = {
    "psql, CSV": f"copy ({SELECTED}) to stdout (format csv, header)",
    "psql, row_to_json": f"copy (select row_to_json(d) from ({SELECTED}) d) to stdout (format csv, delimiter E'\\x01', quote E'\\x02')",
}


@dataclass(frozen=True, slots=True)
class Export:
    """The median of the rounds: seconds, megabytes sent, and by how many megabytes a worker's peak was above what it held before."""

    name: str
    seconds: float
    megabytes: float
    grown: float | None


def measure(dsn: str, rounds: int, folder: Path) -> list[Export]:
    """Export all rows in each form, each beside psql, `rounds` times."""
    found: dict[str, list[Export]] = {}
    with gunicorn("web.wsgi:app", dsn, folder / "export.log") as server:
        download(server, "csv")
        for _ in range(rounds):
            for told in (download(server, "csv"), *(copied(dsn, name) for name in COPIES), download(server, "ndjson")):
                found.setdefault(told.name, []).append(told)
    return [
        Export(
            name, median(each.seconds for each in all_of), all_of[0].megabytes, max((each.grown or 0.0 for each in all_of), default=None)
        )
        if all_of[0].grown is not None
        else Export(name, median(each.seconds for each in all_of), all_of[0].megabytes, None)
        for name, all_of in found.items()
    ]


def download(server: Server, form: str) -> Export:
    """Fetch an export of ours; the memory is that of the worker that grew the most."""
    before = {pid: reset_peak(pid) for pid in server.workers()}
    conn = http.client.HTTPConnection(*server.address, timeout=900)
    began, size = time.perf_counter(), 0
    conn.request("GET", f"/data/export?format={form}")
    response = conn.getresponse()
    if response.status != 200:
        raise RuntimeError(response.read(2000).decode())
    while piece := response.read(PIECE):
        size += len(piece)
    took = time.perf_counter() - began
    conn.close()
    return Export(f"ours, {form.upper()}", took, size / 1e6, max(memory(pid, "VmHWM") - held for pid, held in before.items()))


def copied(dsn: str, name: str) -> Export:
    """Let psql write the same to nowhere."""
    began = time.perf_counter()
    command = [find_psql(), "-qX", "-v", "ON_ERROR_STOP=1", "-c", COPIES[name], dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        size = 0
        while piece := process.stdout.read(PIECE):
            size += len(piece)
    took = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"psql ended with {process.returncode}")
    return Export(name, took, size / 1e6, None)


def find_psql() -> str:
    """psql of the machine, or that which comes with the embedded server."""
    folders = (str(folder) for folder in list_folders())
    return shutil.which("psql") or next(found for folder in folders if (found := shutil.which("psql", path=folder)))


def reset_peak(pid: int) -> float:
    """Let a process's peak begin anew; return what it holds now, in megabytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid)
