"""The peak memory of a load by the size of the file: it should not grow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from benchmarks.bench import Bench
from benchmarks.csv_load import write
from benchmarks.databases import etl, fresh
from benchmarks.results import COSTS, costs, table
from benchmarks.targets import Target, at_most


def measure(bench: Bench) -> list[dict[str, Any]]:
    """Load a tenth of the largest file, and the largest."""
    found, file = [], bench.folder / "memory.csv"
    for rows in (bench.most // 10, bench.most):
        write(file, rows)
        with fresh(bench.dsn) as dsn:
            found.append({"rows": rows} | asdict(etl(dsn, "run", "--source", "csv", settings={"CSV_PATHS": str(file)})))
    file.unlink()
    return found


def tell(found: list[dict[str, Any]]) -> list[str]:
    """A table."""
    lines = [(f"{each['rows']:,}", *costs(each), f"{each['rows'] / each['seconds']:,.0f}") for each in found]
    return ["## Memory of a load by the size of the file", table(("rows", *COSTS, "rows/s"), lines)]


def judge(found: list[dict[str, Any]]) -> Iterator[Target]:
    """Bounded, and the same."""
    few, many = (each["memory"] for each in found)
    yield at_most(f"peak memory of a load of {found[-1]['rows']:,} rows", many, 130, " MB")
    yield at_most(f"the same beyond that of {found[0]['rows']:,} rows", max(many - few, 0), 10, " MB")
