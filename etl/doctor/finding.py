"""What a check found, and how a person reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["✔", "!", "✘"]
STATES: dict[Mark, str] = {"✔": "ok", "!": "warning", "✘": "failure"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its mark, its name, what was found, and the remedy where one is needed."""

    mark: Mark
    name: str
    found: str
    fix: str = ""


def line(finding: Finding) -> str:
    """One finding for a person: the remedy on the same line."""
    return f"{finding.mark} {finding.name:<13} {finding.found}" + (f": {finding.fix}" if finding.fix else "")


def facts(finding: Finding) -> dict[str, str | None]:
    """One finding as `--json` prints it."""
    told = {"type": "check", "state": STATES[finding.mark], "name": finding.name, "finding": finding.found}
    return {**told, "fix": finding.fix or None}


def size(count: int) -> str:
    """Bytes in the unit that a person reads."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:,.1f} {unit}"
    return f"{count} B"
