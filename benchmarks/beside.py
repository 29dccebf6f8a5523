"""Reads while a CSV of as many rows is being loaded into the table they read, between two quiet measurements."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from typing import Any

from benchmarks.bench import Bench
from benchmarks.client import load
from benchmarks.csv_load import write
from benchmarks.databases import COMMAND, environment, filled
from benchmarks.reads import advance, asked, spelled
from benchmarks.results import table
from benchmarks.servers import Server, gunicorn
from benchmarks.targets import Target, at_most

CLIENTS = (1, 16)


@dataclass(slots=True)
class Answers:
    """Latencies in milliseconds of some measurements together, and the seconds they took."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def facts(self) -> dict[str, float]:
        """Rate and percentiles."""
        ordered = sorted(self.latencies)
        at = {f"p{share}": ordered[min(len(ordered) * share // 100, len(ordered) - 1)] for share in (50, 99)}
        return {"rate": len(ordered) / self.seconds, **at}


def measure(bench: Bench) -> dict[str, Any]:
    """Quiet, loading, quiet again; while it loads, the numbers of clients take turns."""
    file = bench.folder / "beside.csv"
    write(file, bench.rows)
    found = {(state, clients): Answers() for state in ("quiet", "loading") for clients in CLIENTS}
    with filled(bench.dsn, bench.rows) as dsn, gunicorn("web.wsgi:app", dsn, bench.folder / "beside.log") as server:
        quiet(bench, dsn, server, found)
        began = time.perf_counter()
        command = [str(COMMAND), "run", "--source", "csv", "--quiet"]
        with subprocess.Popen(command, env=environment(dsn, {"CSV_PATHS": str(file)})) as loading:
            for turn in count():
                clients = CLIENTS[turn % len(CLIENTS)]
                if turn >= len(CLIENTS) and loading.poll() is not None:
                    break
                ask(bench, server, clients, found["loading", clients])
            took = time.perf_counter() - began
        if loading.returncode:
            raise RuntimeError(f"the load ended with {loading.returncode}")
        quiet(bench, dsn, server, found)
    return {"load": took, "reads": [{"state": state, "clients": n} | each.facts() for (state, n), each in found.items()]}


def quiet(bench: Bench, dsn: str, server: Server, found: dict[tuple[str, int], Answers]) -> None:
    """Ask while nothing else is under way."""
    for clients in CLIENTS * bench.rounds:
        advance(dsn)
        ask(bench, server, clients, found["quiet", clients])


addresses = cycle(asked(spelled("")))
"""So many that none comes again while its version of the data stands."""


def ask(bench: Bench, server: Server, clients: int, answers: Answers) -> None:
    """Ask for the first page, by other addresses than the time before."""
    told = load(server.address, list(islice(addresses, 4000)), clients, bench.seconds)
    if told.failures:
        raise RuntimeError(told.failure)
    answers.seconds += told.seconds
    answers.latencies += (1000 * each for each in told.latencies)


def tell(found: dict[str, Any]) -> list[str]:
    """A table."""
    lines = [(e["state"], e["clients"], f"{e['rate']:,.0f}", f"{e['p50']:.2f}", f"{e['p99']:.1f}") for e in found["reads"]]
    return [
        "## Reads while a load is under way",
        f"`GET /data?limit=100`, not cached, before and after a load of a CSV of as many rows as the table has, and meanwhile. "
        f"The load took {found['load']:.0f} s.",
        table(("", "clients", "req/s", "p50 ms", "p99 ms"), lines),
    ]


def judge(found: dict[str, Any]) -> Iterator[Target]:
    """The slowest answers, loading against quiet, at the most clients."""
    p99 = {each["state"]: each["p99"] for each in found["reads"] if each["clients"] == CLIENTS[-1]}
    yield at_most("reads while a load is under way: p99 against the quiet one", p99["loading"] / p99["quiet"], 3)
