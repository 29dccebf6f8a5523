"""Plans and ends of backfills as people and programs read them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etl.backfill.begin import RangePlan
from etl.backfill.files import Survey
from etl.backfill.ranges import asks
from etl.backfill.store import Tally
from etl.report import one_object
from etl.table import table
from etl.work import Outcome

SHOWN = 40
"""Rows of a plan that a person is shown; --json has all."""


def show_range(plan: RangePlan, *, as_json: bool) -> str:
    """A range's chunks, calls and time, and what the plan of the key does not allow."""
    if as_json:
        return "\n".join([*map(one_object, range_chunks(plan)), one_object(range_facts(plan))])
    rows = [
        [asset, f"{part.since:%Y-%m-%d %H:%M}", f"{part.until:%Y-%m-%d %H:%M}", "1", "yes" if part.allowed else "no"]
        for asset in plan.assets[:SHOWN]
        for part in reversed(plan.parts)
    ][:SHOWN]
    left = plan.chunks - len(rows)
    told = [table(["ASSET", "FROM (UTC)", "TO (UTC)", "CALLS", "ALLOWED"], rows)]
    told += [f"and {left:,} more chunks, see --json"] if left else []
    told += [
        "",
        f"{plan.chunks:,} chunks, {plan.chunks:,} calls, {duration(plan.seconds)} within the half of the rate limit that runs leave",
    ]
    told += [f"{plan.not_allowed:,} of them will be refused: {plan.limits}" if plan.not_allowed else f"limits: {plan.limits}"]
    if plan.tally:
        told += [f"begun before: {plan.tally.done:,} chunks are done, {plan.tally.open:,} are left"]
    return "\n".join(told)


def range_chunks(plan: RangePlan) -> list[dict[str, Any]]:
    """The chunks of a plan in the order in which they are loaded."""
    allowed = {part.since: part.allowed for part in plan.parts}
    return [
        {"type": "chunk", "asset": ask.external_id, "from": ask.since, "to": ask.until, "calls": 1, "allowed": allowed[ask.since]}
        for ask in asks(plan.wanted, plan.parts, plan.assets)
    ]


def range_facts(plan: RangePlan) -> dict[str, Any]:
    """A plan in figures."""
    told = {"type": "summary", "exit_code": 0, "source": plan.wanted.source, "interval": plan.wanted.interval, "chunks": plan.chunks}
    told |= {"calls": plan.chunks, "seconds": round(plan.seconds, 1), "not_allowed": plan.not_allowed, "limits": plan.limits}
    return told | {"done": plan.tally.done if plan.tally else 0}


def show_files(surveys: Sequence[Survey], failed: Sequence[str], *, as_json: bool) -> str:
    """What was found of files."""
    if as_json:
        files: list[dict[str, Any]] = [{"type": "file", "path": one.path, "chunks": len(one.parts), **file_facts(one)} for one in surveys]
        chunks = sum(len(one.parts) for one in surveys)
        summary = {"type": "summary", "exit_code": 3 if failed else 0, "chunks": chunks, "calls": 0, "not_loaded": list(failed)}
        return "\n".join(map(one_object, [*files, summary]))
    rows = [
        [one.path, str(file_facts(one)["holds"]), f"{len(one.parts):,}", f"{one.parts[-1].end if one.parts else 0:,}"] for one in surveys
    ]
    told = [table(["FILE", "HOLDS", "CHUNKS", "BYTES"], rows)] if rows else []
    return "\n".join([*told, *failed])


def file_facts(one: Survey) -> dict[str, Any]:
    """What a file holds, by which columns."""
    columns = {name: one.dialect.header[at] for name, at in one.dialect.columns.items()}
    holds = f"history of {one.asset}" if one.asset else "history" if one.points else "assets"
    return {"holds": holds, "in_order": one.in_order, "columns": columns, "left_out": one.dialect.ignored}


def duration(seconds: float) -> str:
    """A time to come, roughly."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def finished(outcomes: Sequence[Outcome], tally: Tally) -> list[str]:
    """How a backfill stands at the end of a command."""
    if not tally.total:
        return []
    told = f"{tally.done:,} of {tally.total:,} chunks are done"
    told += f", {tally.failed:,} failed" if tally.failed else ""
    told += f", {tally.not_allowed:,} are not allowed by the plan (--retry-not-allowed asks again)" if tally.not_allowed else ""
    told += f", {tally.open:,} are left: the same command goes on" if tally.open else ""
    return [told if outcomes else f"nothing to do: {told}, by an earlier command"]
