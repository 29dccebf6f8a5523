"""Aligned tables, cut to the terminal's width where a person watches and whole everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

from etl.terminal import room
from shared.addresses import printable

NARROWEST = 8
"""Columns that a cut cell keeps; below that a line breaks instead."""
GAP = "  "


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Align cells under their heads: numbers to the right, text to the left; no line is longer than `width`, if one is known."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = fitted([max(columns(row[i]) for row in [head, *cells]) for i in range(len(head))], room() if width is None else width)
    right = [bool(cells) and all(is_number(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        GAP.join(aligned(cell, w, to_right=r) for cell, w, r in zip(row, widths, right, strict=True)).rstrip() for row in [head, *cells]
    )


def is_number(cell: str) -> bool:
    """Whether a cell goes to the right; `-` stands for no number."""
    return cell.strip("+%").replace(",", "").replace("-", "0").replace(".", "").isdecimal()


def fitted(widths: list[int], room: int | None) -> list[int]:
    """Take from the widest column until the line fits."""
    while room is not None and sum(widths) + len(GAP) * (len(widths) - 1) > room and max(widths) > NARROWEST:
        widest = widths.index(max(widths))
        widths = [*widths[:widest], widths[widest] - 1, *widths[widest + 1 :]]
    return widths


def aligned(cell: str, width: int, *, to_right: bool) -> str:
    """A cell that takes exactly `width` columns."""
    while columns(cell) > width:
        cell = f"{cell.removesuffix('…')[:-1]}…"
    blanks = " " * (width - columns(cell))
    return blanks + cell if to_right else cell + blanks


def columns(text: str) -> int:
    """Columns a text takes on a terminal: two for a wide character of East Asia, none for a mark on another."""
    return len(text) if text.isascii() else sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
