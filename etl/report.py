"""What a run says at its end: a line a source for people, a log line a source for cron, one object a line with `--json`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from etl.errors import SEPARATOR, Locked, OneOfMany, kind_of
from etl.lease import Counts
from etl.work import Outcome

log = structlog.get_logger()

MARKS = {"success": "✔", "partial": "!", "cancelled": "!"}


def is_good(outcome: Outcome) -> bool:
    """Whether nothing about a source needs a look."""
    return outcome.status in ("success", "partial")


def facts(outcome: Outcome, message: str | None) -> dict[str, Any]:
    """One source's result as `--json` prints it, under the names of the table's columns."""
    return {
        "source": outcome.source,
        "id": outcome.run_id,
        "status": outcome.status or "locked",
        "records_extracted": outcome.counts.total,
        **{f"records_{name}": getattr(outcome.counts, name) for name in Counts.__slots__},
        "duration_seconds": round(outcome.seconds, 3),
        "drift": outcome.drift,
        "resumed_at": outcome.resumed_at,
        "error_type": kind_of(outcome.error) if outcome.error else None,
        "error_message": message,
    }


def log_outcome(outcome: Outcome, message: str | None) -> None:
    """The one line a source gets where nobody watches."""
    told = {name: value for name, value in facts(outcome, message).items() if value is not None}
    told["run_id"] = told.pop("id", None)
    write = log.info if is_good(outcome) else log.warning if isinstance(outcome.error, Locked) else log.error
    write(
        "run finished" if outcome.status in ("success", "partial") else "run locked" if outcome.status is None else f"run {outcome.status}",
        **told,
    )


def line(outcome: Outcome, message: str | None, *, dry: bool = False) -> str:
    """One source's result for a person."""
    mark = MARKS.get(outcome.status or "", "✘")
    counts, told = outcome.counts, f"{outcome.counts.total:>9,} seen"
    told += f" {counts.inserted:>9,} new {counts.updated:>7,} updated {counts.unchanged:>9,} same {counts.quarantined:>5,} quarantined"
    tail = "\n  dry run: nothing was written" if dry else ""
    tail += f"\n  went on at {outcome.resumed_at}" if outcome.resumed_at else ""
    tail += (
        f"\n  {outcome.drift} open change{'s'[: outcome.drift > 1]} of upstream's fields: kasparro-etl drift list" if outcome.drift else ""
    )
    tail += "".join(f"\n  {part}" for part in parts_of(outcome, message))
    return f"{mark} {outcome.source:<12}{told} {outcome.seconds:6.1f} s{tail}"


def skipped(outcome: Outcome, message: str | None) -> str:
    """One source that another run holds, where that is no failure."""
    held = (message or "").partition(": try later")[0]
    return f"- {outcome.source:<12}skipped: {held}"


def parts_of(outcome: Outcome, message: str | None) -> list[str]:
    """An error's message, of several files or feeds a line each."""
    if not message:
        return []
    if not isinstance(outcome.error, OneOfMany) or len(outcome.error.parts) == 1:
        return [message]
    head, _, told = message.partition(" failed: ")
    return [f"{head} failed:", *told.split(SEPARATOR)]


def summary(outcomes: list[Outcome], exit_code: int, left: Sequence[str] = (), verb: str = "run", *, skip: bool = False) -> str:
    """The last lines for a person: how many came out how, and the next step where there is one; `left` are sources not begun,
    `verb` is the command that goes on. With `skip` a source that was locked needs no step.
    """
    names = {"ok": "success", "partial": "partial", "failed": "failed", "refused": "refused", "cancelled": "cancelled"}
    parts = [(label, sum(o.status == status for o in outcomes)) for label, status in names.items()]
    parts += [("skipped" if skip else "locked", sum(o.status is None for o in outcomes)), ("not begun", len(left))]
    seconds = sum(o.seconds for o in outcomes)
    told = f"done: {', '.join(f'{n} {label}' for label, n in parts if n)} in {seconds:.1f} s, exit {exit_code}"
    again = [*(o.source for o in outcomes if not is_good(o) and not (skip and o.status is None)), *left]
    return told + (f"\n  to go on: kasparro-etl {verb} --source {','.join(again)}" if again else "")


def say(text: str, *, err: bool = False) -> None:
    """Print a line at once. A reader that went away, or a full disk behind it, does not keep the data from being loaded."""
    stream = sys.stderr if err else sys.stdout
    try:
        stream.write(text + "\n")
        stream.flush()
    except (OSError, ValueError, AttributeError):
        setattr(sys, "stderr" if err else "stdout", io.StringIO())  # what follows, and the flush at exit, goes nowhere


def one_object(value: dict[str, Any]) -> str:
    """One JSON object on one line."""
    return json.dumps(value, default=plain, ensure_ascii=False)


def plain(value: Any) -> str:
    """What JSON has no form for: a time in ISO 8601, anything else as its text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
