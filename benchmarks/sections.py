"""The sections: how each is measured, told, drawn and judged; they are measured alone or together, and kept until measured again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import backfills, beside, csv_load, exports, growth, loaders, memory, payloads, queues, reads, start, tables, targets
from benchmarks.bench import Bench
from benchmarks.databases import filled
from benchmarks.targets import Target


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the results. `heavy`: a round of it takes minutes, so it has fewer."""

    measure: Callable[[Bench], Any]
    tell: Callable[[Any], list[str]]
    judge: Callable[[Any], Iterator[Target]]
    draw: Callable[[Any], dict[str, str]] = lambda _: {}
    heavy: bool = False


def measure_reads(bench: Bench) -> dict[str, Any]:
    """Every kind of read over generated rows."""
    with filled(bench.dsn, bench.rows) as dsn:
        found, used = reads.measure(dsn, bench.rows, bench.rounds, bench.seconds, bench.with_peers, bench.folder)
    return {"reads": [asdict(each) for each in found], "memory": used, "seconds": bench.seconds}


def measure_loads(bench: Bench) -> list[dict[str, Any]]:
    """The loads of a CSV, fresh, unchanged, appended to and edited."""
    return [asdict(each) for each in csv_load.run(bench.dsn, bench.folder, bench.rows, bench.loads)]


def judge_loads(found: list[dict[str, Any]]) -> Iterator[Target]:
    """Without the start of the command, which is a section of its own."""
    return targets.of_loads(found, None)


SECTIONS = {
    "start": Section(start.measure, start.tell, targets.of_start),
    "reads": Section(measure_reads, tables.tell_reads, lambda found: targets.of_reads(found["reads"])),
    "exports": Section(exports.measure, exports.tell, exports.judge),
    "beside": Section(beside.measure, beside.tell, beside.judge),
    "csv": Section(measure_loads, tables.tell_loads, judge_loads, heavy=True),
    "memory": Section(memory.measure, memory.tell, memory.judge, heavy=True),
    "loaders": Section(loaders.measure, loaders.tell, loaders.judge, heavy=True),
    "payloads": Section(payloads.measure, payloads.tell, payloads.judge, heavy=True),
    "backfills": Section(backfills.measure, backfills.tell, backfills.judge, heavy=True),
    "queues": Section(queues.measure, queues.tell, queues.judge, queues.draw),
    "growth": Section(growth.measure, growth.tell, growth.judge, growth.draw),
}
"""In the order in which they are measured and told."""


def judged(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every target of what was ever measured, by section."""
    for name, section in SECTIONS.items():
        if name not in found:
            continue
        told = found[name]["found"]
        if name == "csv" and "start" in found:
            lines = targets.of_loads(told, found["start"]["found"]["kasparro-etl --version"])
        else:
            lines = section.judge(told)
        yield from (asdict(line) | {"section": name} for line in lines)
