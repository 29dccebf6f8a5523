"""Aligned tables, cut to the terminal's width where a person watches and whole everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

from etl.terminal import room
from shared.addresses import printable

NARROWEST = 8
"""Columns that a cut cell keeps; below that a line breaks instead."""
READABLE = 20
"""Columns that a cell which may be cut should keep before another column is left out."""
GAP = "  "


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    *,
    cut: Sequence[str] = (),
    spare: Sequence[str] = (),
    ends: Sequence[str] = (),
) -> str:
    """Align cells under their heads: numbers to the right, text to the left; no line is longer than `width`, if one is known.

    Where there is no room, the columns `spare` are left out, the first of them first, and those of `cut` are cut; by default all may be.
    Of the columns `ends` the end is kept instead of the beginning.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(columns(row[i]) for row in [head, *cells]) for i in range(len(head))]
    most = room() if width is None else width
    shown = chosen(head, widths, most, cut, spare)
    soft = [not cut or head[i] in cut for i in shown]
    widths = fitted(fitted([widths[i] for i in shown], most, soft), most)
    right = [all(is_number(row[i]) for row in cells) and any(row[i] != "-" for row in cells) for i in shown]
    return "\n".join(
        GAP.join(aligned(row[i], w, to_right=r, end=head[i] in ends) for i, w, r in zip(shown, widths, right, strict=True)).rstrip()
        for row in [head, *cells]
    )


def chosen(head: Sequence[str], widths: Sequence[int], most: int | None, cut: Sequence[str], spare: Sequence[str]) -> list[int]:
    """Which columns are shown: all that have room when those of `cut` keep what can be read."""
    shown = list(range(len(head)))
    for name in spare:
        least = [min(widths[i], READABLE) if head[i] in cut else widths[i] for i in shown]
        if most is None or line_of(least) <= most:
            break
        shown.remove(head.index(name))
    return shown


def is_number(cell: str) -> bool:
    """Whether a cell goes to the right; `-` stands for no number."""
    return cell.strip("+%").replace(",", "").replace("-", "0").replace(".", "").isdecimal()


def fitted(widths: list[int], most: int | None, soft: Sequence[bool] = ()) -> list[int]:
    """Take from the widest column, of those that may be cut, until the line fits."""
    able = list(soft) or [True] * len(widths)
    while most is not None and line_of(widths) > most:
        widest = max(range(len(widths)), key=lambda i: widths[i] if able[i] else 0)
        if not able[widest] or widths[widest] <= NARROWEST:
            break
        widths = [*widths[:widest], widths[widest] - 1, *widths[widest + 1 :]]
    return widths


def line_of(widths: Sequence[int]) -> int:
    """Columns of a line whose cells are so wide."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def aligned(cell: str, width: int, *, to_right: bool, end: bool = False) -> str:
    """A cell that takes exactly `width` columns; with `end` it is cut at its beginning."""
    while columns(cell) > width:
        cell = f"…{cell.removeprefix('…')[1:]}" if end else f"{cell.removesuffix('…')[:-1]}…"
    blanks = " " * (width - columns(cell))
    return blanks + cell if to_right else cell + blanks


def columns(text: str) -> int:
    """Columns a text takes on a terminal: two for a wide character of East Asia, none for a mark on another."""
    return len(text) if text.isascii() else sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
