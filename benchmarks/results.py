"""The results as a page of tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ABOUT = ("machine", "Python", "Postgres", "ours", "peers")
"""Facts that are told once, of the section measured last."""


def write(sections: dict[str, Any], pages: dict[str, list[str]], judged: Iterable[dict[str, Any]], left: Iterable[str]) -> str:
    """Markdown of every section that was ever measured, each with the command, the time and the load it was measured under."""
    newest = max(sections.values(), key=lambda section: section["about"]["measured"])["about"]
    parts = [
        "# Results",
        "Written by `python -m benchmarks`, which `make bench` runs. Medians of the rounds; what is compared was measured in turn, "
        "one after the other in each round. The load generator, the servers and Postgres share the machine.",
        table(("", ""), ((name, newest[name]) for name in ABOUT)),
        "## Targets",
        "Ratios of reads are medians of those within each round, at 16 clients unless it says otherwise; "
        "[docs/performance.md](../docs/performance.md#targets-that-are-missed) says why one is missed.",
        table(("target", "aim", "measured", "", "section"), map(line, judged)),
        f"Sections not measured yet: {', '.join(left) or 'none'}.",
        *(part for name, told in pages.items() for part in [told[0], tell_about(sections[name]["about"], newest), *told[1:]]),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def line(target: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table of targets."""
    return target["name"], target["aim"], target["measured"], "met" if target["met"] else "**missed**", target["section"]


def tell_about(about: dict[str, Any], newest: dict[str, Any]) -> str:
    """Under which circumstances a section was measured, and what differs from what stands above."""
    other = "".join(f"; {name}: {about[name]}" for name in ABOUT if about[name] != newest[name])
    rounds = f"{about['rounds']} rounds" if about["rounds"] > 1 else "one round"
    took = f", {about['minutes']:.1f} minutes" if about.get("minutes") else ""
    return f"`{about['command']}`: {about['rows']:,} rows, {rounds}, {about['measured']}{took}; load before: {about['load before']}{other}."


def seconds(value: float) -> str:
    """Seconds with the digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def costs(used: dict[str, Any]) -> tuple[str, str, str, str]:
    """The cells of what a command cost: seconds, processor seconds of client and server, megabytes."""
    return *(seconds(used[name]) for name in ("seconds", "client_cpu", "server_cpu")), f"{used['memory']:.0f}"  # type: ignore[return-value]


COSTS = ("seconds", "client CPU s", "server CPU s", "peak MB")
