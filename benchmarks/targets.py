"""The targets of the figures, and whether they are met. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """What was aimed at, and what was measured."""

    name: str
    aim: str
    measured: str
    met: bool


def at_least(name: str, value: float, aim: float, unit: str = "x") -> Target:
    """A ratio that should be large."""
    return Target(name, f"≥ {aim:,g}{unit}", written(value, unit), value >= aim)


def at_most(name: str, value: float, aim: float, unit: str = "x") -> Target:
    """A figure that should be small."""
    return Target(name, f"≤ {aim:,g}{unit}", written(value, unit), value <= aim)


def written(value: float, unit: str) -> str:
    """A figure with its unit."""
    return f"{value:,.0f}{unit}" if abs(value) >= 100 else f"{value:.2f}{unit}"


def of_reads(results: list[dict[str, Any]]) -> Iterator[Target]:
    """Ratios are medians of those within each round, at 16 clients."""
    found = {(each["case"], each["clients"]): each for each in results}

    def ratio(ours: str, theirs: str, clients: int = 16) -> float:
        pairs = zip(found[ours, clients]["rates"], found[theirs, clients]["rates"], strict=True)
        return float(median(one / other for one, other in pairs))

    page = "page, not cached"
    yield at_least("cached page, against bare Flask", ratio("page, cached", "bare Flask"), 0.6)
    yield at_least("304, against bare Flask", ratio("page, 304", "bare Flask"), 0.6)
    yield at_least("cursor page 9,000, against page 1, one client", ratio("cursor, page 9,000", page, 1), 0.9)
    for path in ("/stats", "/health"):
        yield at_most(f"{path} at one client, median", found[path, 1]["p50"], 5, " ms")
    if ("page, ORM peer", 16) not in found:
        return
    yield at_least("page, not cached, against the ORM peer", ratio(page, "page, ORM peer"), 8)
    yield at_least("the same with its count", ratio(page, "page, ORM peer with count"), 50)
    yield at_least("page, not cached, against the tuned peer", ratio(page, "page, tuned peer"), 1.3)
    yield at_most("p99 of that page, against the tuned peer's", found[page, 16]["p99"] / found["page, tuned peer", 16]["p99"], 1)
    for name in ("filter and sort", "symbol", "q"):
        yield at_least(f"{name}, against the ORM peer", ratio(name, f"{name}, ORM peer"), 5)


def of_loads(cases: list[dict[str, Any]], start: float | None) -> Iterator[Target]:
    """A fresh load against psql's, changes against the fresh load."""
    names = dict.fromkeys(each["name"] for each in cases)
    seconds = {name: median(each["ours"] for each in cases if each["name"] == name) for name in names}
    fresh = seconds["fresh"]
    ratio = median(each["ours"] / each["psql"] for each in cases if each["name"] == "fresh")
    yield at_most("fresh load, against psql's copy and upsert", ratio, 2)
    if start is not None:
        yield at_most("unchanged file, beyond the start of the command", seconds["unchanged"] - start, 0.3, " s")
    yield at_most("1,000 rows appended, against the fresh load", 100 * seconds["1,000 rows appended"] / fresh, 2, " %")
    yield at_most("1 % edited, against the fresh load", 100 * seconds["1 % edited"] / fresh, 25, " %")
    yield at_most("peak memory of a load", max(each["memory"] for each in cases), 130, " MB")


def of_start(start: dict[str, float]) -> Iterator[Target]:
    """The command against the interpreter."""
    bare = start["python -c pass"]
    yield at_most("kasparro-etl --version, beyond python -c pass", start["kasparro-etl --version"] - bare, 0.15, " s")
    yield at_most("first output of run", start["kasparro-etl run, first output"], 0.3, " s")
