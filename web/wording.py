"""How pages say things: states with a glyph each, lengths of time, moments, numbers. Pure."""

from __future__ import annotations

import json
import shlex
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

GLYPHS = {
    "up": "✓",
    "new": "○",
    "late": "◷",
    "failed": "✗",
    "running": "▶",
    "stalled": "‖",
    "success": "✓",
    "partial": "◐",
    "refused": "⊘",
    "cancelled": "□",
    "abandoned": "†",
    "queued": "…",
    "well": "✓",
    "look": "▲",
    "broken": "✗",
}
"""A sign for every state of a source, outcome of a run and verdict: colour alone tells nothing."""
LONGEST_CELL = 60
MINUS = "\N{MINUS SIGN}"


def span(seconds: float | None) -> str:
    """A length of time in one unit, or in two where one is coarse; rounded once, to the smallest unit that is shown."""
    if seconds is None:
        return "-"
    tenths = max(round(seconds, 1), 0.0)
    if tenths < 10:
        return f"{tenths:.1f} s"
    if (whole := round(seconds)) < 100:
        return f"{whole} s"
    if (minutes := round(seconds / 60)) < 100:
        return f"{minutes} min"
    if minutes < 600:
        return f"{minutes // 60} h {minutes % 60} min"
    if (hours := round(seconds / 3600)) < 48:
        return f"{hours} h"
    return f"{round(seconds / 86400):,} d"


def ago(moment: datetime | None, now: datetime) -> str:
    """When something was or will be, as seen from now."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    told = span(round(abs(seconds))).replace(".0 s", " s")
    return f"{told} ago" if seconds > 0 else f"in {told}"


def utc(moment: datetime | None) -> str:
    """A moment in full."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else "never"


def number(value: float | None) -> str:
    """A count with its thousands apart."""
    return "-" if value is None else f"{value:,.10g}" if isinstance(value, float) else f"{value:,}"


def price(value: Decimal | int | None) -> str:
    """A price with every digit that is stored, its thousands apart."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,f}"


def signed(value: float | None, unit: str = "") -> str:
    """A difference with its sign; none where there is none."""
    if not value:
        return "-" if value is None else f"0{unit}"
    return f"{'+' if value > 0 else MINUS}{abs(value):,.10g}{unit}"


def size(count: int | None) -> str:
    """A number of bytes."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"


def counted(count: int, noun: str) -> str:
    """A number of things: `1 source`, `4 sources`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def brief(value: Any, longest: int = LONGEST_CELL) -> str:
    """Anything on one line that is not too long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def plain(value: Any) -> str:
    """Text for a terminal: nothing in it can move the cursor, change colours or turn the line around."""
    return "".join("�" if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") else sign for sign in str(value))


def glyph(state: str) -> str:
    """The sign of a state."""
    return GLYPHS.get(state, "?")


def quoted(text: str) -> str:
    """A text as one word of a command."""
    return shlex.quote(text)


def share(part: float, whole: float) -> str:
    """A part in per cent."""
    return f"{100 * part / whole:.0f} %" if whole else "-"
