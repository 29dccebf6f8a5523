"""The tables of reads and of the loads of a CSV. Pure."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.results import seconds, table


def tell_reads(found: dict[str, Any]) -> list[str]:
    """Requests a second and latencies by number of clients; memory."""
    cases: dict[str, dict[int, dict[str, Any]]] = {}
    for each in found["reads"]:
        cases.setdefault(each["case"], {})[each["clients"]] = each
    clients = sorted({each["clients"] for each in found["reads"]})
    head = ["case", *(f"{text}, {count}" for count in clients for text in ("req/s", "p50 ms", "p99 ms"))]
    lines = [
        [name, *(cell for count in clients for cell in (f"{by[count]['rate']:,.0f}", f"{by[count]['p50']:.2f}", f"{by[count]['p99']:.1f}"))]
        for name, by in cases.items()
    ]
    wrong = [f"{each['case']} at {each['clients']}: {each['failures']}" for each in found["reads"] if each["failures"]]
    busiest = max(each["cpu"] for each in found["reads"])
    return [
        "## Reads",
        f"At {', '.join(map(str, clients))} clients, two workers, {found['seconds']:g} s a measurement, all cases once a round. "
        f"The load generator took {100 * busiest:.0f} % of a core at most. "
        f"Answers of another status, which are left out: {'; '.join(wrong) or 'none'}.",
        table(head, lines),
        table(("worker of", "MB"), ((name, f"{used:.0f}") for name, used in found["memory"].items())),
    ]


def tell_loads(found: list[dict[str, Any]]) -> list[str]:
    """Medians of the cases of a CSV; the processor time of both sides where it was measured."""
    lines = []
    for name in dict.fromkeys(each["name"] for each in found):
        rounds = [each for each in found if each["name"] == name]
        ours, psql = (seconds(median(each[whose] for each in rounds)) for whose in ("ours", "psql"))
        ratio = median(each["ours"] / each["psql"] for each in rounds)
        cpu = [seconds(median(each[side] for each in rounds)) if side in rounds[0] else "" for side in CPU]
        lines.append((name, ours, *cpu[:2], max(round(each["memory"]) for each in rounds), psql, *cpu[2:], f"{ratio:.2f}"))
    head = ("case", "ours, s", "client CPU s", "server CPU s", "peak MB", "psql, s", "client CPU s", "server CPU s", "ratio")
    return ["## Load of a CSV, beside psql's copy and upsert", table(head, lines)]


CPU = ("client_cpu", "server_cpu", "psql_client_cpu", "psql_server_cpu")
