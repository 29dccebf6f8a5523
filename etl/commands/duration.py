"""Lengths of time on the command line: `90s`, `10m`, `1h30m`, `90d`."""

from __future__ import annotations

import re
from typing import Any

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST = 100 * 366 * 86_400


class Duration(click.ParamType[float]):
    """A length of time in seconds, given in weeks, days, hours, minutes and seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the parts and add them up."""
        if isinstance(value, int | float):
            return float(value)
        parts = re.findall(r"(\d{1,9})([smhdw])", value)
        seconds = sum(int(count) * UNITS[unit] for count, unit in parts)
        if "".join(count + unit for count, unit in parts) != value or not 0 < seconds <= LONGEST:
            self.fail(f"{value!r} is no length of time: expected for example 90s, 10m, 1h30m or 90d", param, ctx)
        return float(seconds)


DURATION = Duration()
