"""Ids on the command line: whole numbers that a table of ours may hold."""

from __future__ import annotations

from typing import Any

import click

LAST = 2**63 - 1
"""The greatest id that Postgres counts to."""


class Id(click.ParamType[int]):
    """An id as the lists show it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        number = click.INT.convert(value, param, ctx)
        if not 1 <= number <= LAST:
            self.fail(f"{value} is no id: expected a whole number from 1 on, as the list shows it", param, ctx)
        return number


ID = Id()
