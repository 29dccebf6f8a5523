"""The results as a page of tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any


def write(found: dict[str, Any]) -> str:
    """Markdown of everything that was measured."""
    parts = [
        "# Results",
        f"`{found['command']}`: {found['rows']:,} rows, medians of {found['rounds']} rounds, the load generator on the same machine.",
        table(("", ""), found["facts"].items()),
        "## Targets",
        table(("target", "aim", "measured", ""), targets(found["targets"])),
    ]
    for section, tell in (("reads", reads), ("exports", exports), ("csv", loads), ("start", start)):
        if section in found:
            parts += tell(found)
    return "\n\n".join(parts) + "\n"


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def targets(found: list[dict[str, Any]]) -> Iterable[Iterable[Any]]:
    """A line a target."""
    return ((each["name"], each["aim"], each["measured"], "met" if each["met"] else "**missed**") for each in found)


def reads(found: dict[str, Any]) -> list[str]:
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


def exports(found: dict[str, Any]) -> list[str]:
    """Seconds, speed, memory."""
    lines = [
        [each["name"], f"{each['seconds']:.2f}", f"{found['rows'] / each['seconds']:,.0f}", f"{each['megabytes']:.0f}", grown(each)]
        for each in found["exports"]
    ]
    return ["## Export of all rows", table(("", "seconds", "rows/s", "MB", "memory, + MB"), lines)]


def grown(each: dict[str, Any]) -> str:
    """How much memory an export took."""
    return "" if each["grown"] is None else f"{each['grown']:.1f}"


def loads(found: dict[str, Any]) -> list[str]:
    """Medians of the cases of a CSV."""
    lines = []
    for name in dict.fromkeys(each["name"] for each in found["csv"]):
        rounds = [each for each in found["csv"] if each["name"] == name]
        ours, psql = (median(each[whose] for each in rounds) for whose in ("ours", "psql"))
        ratio = median(each["ours"] / each["psql"] for each in rounds)
        lines.append((name, f"{ours:.2f}", f"{psql:.2f}", f"{ratio:.2f}", max(each["memory"] for each in rounds)))
    return [
        "## Load of a CSV, beside psql's copy and upsert",
        f"Medians of {found['loads']} rounds." if found["loads"] > 1 else "One round.",
        table(("case", "ours s", "psql s", "ratio", "MB"), lines),
    ]


def start(found: dict[str, Any]) -> list[str]:
    """Seconds of a start."""
    return ["## Start of the command line", table(("", "seconds"), ((name, f"{took:.3f}") for name, took in found["start"].items()))]
