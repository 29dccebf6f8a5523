"""A line chart as a small SVG that stands on a light and on a dark page: labelled axes with units, logarithmic where asked. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDE, HIGH = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 36, 40, 48
COLOURS = ("#2a7de1", "#d9822b", "#2ca36b", "#a05bd6", "#c94f6d")
STYLE = "text{font:12px system-ui,sans-serif;fill:#767676}.title{font-size:14px;font-weight:600}.grid{stroke:#8884}.axis{stroke:#888}"
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """A label with its unit, the ends, and whether the steps are powers of ten."""

    label: str
    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis a value lies, 0 to 1."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))

    def ticks(self) -> list[float]:
        """Where the axis is marked."""
        if self.log:
            return [10.0**power for power in range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]
        step = next(base for power in range(-9, 12) for base in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if self.high / base <= 5)
        return [step * n for n in range(int(self.high / step) + 1)]


def chart(title: str, x: str, y: str, lines: Mapping[str, Points]) -> str:
    """Draw the lines by name: x logarithmic, y from 0."""
    places = [place for points in lines.values() for place, _ in points]
    most = max(value for points in lines.values() for _, value in points)
    low, high = min(places), max(places)
    across = Axis(x, low, high if high > low else low * 10, log=True)
    up = Axis(y, 0, 1.15 * most or 1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>',
        *(mark_up(up, value) for value in up.ticks()),
        *(mark_across(across, value) for value in across.ticks()),
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{HIGH - BOTTOM}H{WIDE - RIGHT}"/>',
        f'<text x="{(LEFT + WIDE - RIGHT) / 2:g}" y="{HIGH - 8}" text-anchor="middle">{escape(x)}</text>',
        f'<text transform="translate(14 {(TOP + HIGH - BOTTOM) / 2:g}) rotate(-90)" text-anchor="middle">{escape(y)}</text>',
        *(draw(number, name, points, across, up) for number, (name, points) in enumerate(lines.items())),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def place_across(axis: Axis, value: float) -> float:
    """Pixels from the left."""
    return LEFT + axis.share(value) * (WIDE - LEFT - RIGHT)


def place_up(axis: Axis, value: float) -> float:
    """Pixels from the top."""
    return HIGH - BOTTOM - axis.share(value) * (HIGH - TOP - BOTTOM)


def mark_up(axis: Axis, value: float) -> str:
    """A line of the grid with its figure."""
    at = place_up(axis, value)
    line = f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDE - RIGHT}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:,.10g}</text>'


def mark_across(axis: Axis, value: float) -> str:
    """A figure below the axis."""
    return f'<text x="{place_across(axis, value):.1f}" y="{HIGH - BOTTOM + 16}" text-anchor="middle">{value:,.10g}</text>'


def draw(number: int, name: str, points: Points, across: Axis, up: Axis) -> str:
    """A line with its points and its name above the chart."""
    colour = COLOURS[number % len(COLOURS)]
    at = [f"{place_across(across, x):.1f},{place_up(up, y):.1f}" for x, y in points]
    dots = "".join(f'<circle cx="{each.split(",")[0]}" cy="{each.split(",")[1]}" r="3" fill="{colour}"/>' for each in at)
    line = f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(at)}"/>'
    left = LEFT + number * 150
    legend = f'<rect x="{left}" y="25" width="10" height="3" fill="{colour}"/><text x="{left + 16}" y="31">{escape(name)}</text>'
    return line + dots + legend
