"""Pictures as inline SVG: records a run, batches over time, prices over time. Pure: numbers in, markup out, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from markupsafe import Markup

WIDE, HIGH = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 12, 12, 36, 64
"""Room around a chart for what is written there, in units of the picture."""


@dataclass(frozen=True, slots=True)
class Point:
    """A price: how it stood at the end of a moment or an interval, and how low and high it was within."""

    at: datetime
    price: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Bar:
    """A batch: when it was committed, in seconds since the run began, and how many records it took."""

    at: float
    records: int
    told: str
    bad: bool


def sparkline(values: Sequence[float], told: str, width: int = 120, height: int = 24) -> Markup:
    """A line without axes; `told` says the same in words."""
    highest = max(values, default=0) or 1
    step = width / max(len(values) - 1, 1)
    points = " ".join(f"{at * step:.1f},{height - 2 - (height - 4) * value / highest:.1f}" for at, value in enumerate(values))
    line = Markup('<polyline class="line" points="{}"/>').format(points) if len(values) > 1 else Markup("")
    return framed(line, told, width, height, "spark")


def framed(inside: Markup, told: str, width: int, height: int, kind: str) -> Markup:
    """A picture with its name in words."""
    head = Markup('<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">')
    return head.format(kind, width, height, width, height, told) + inside + Markup("</svg>")


def timeline(bars: Sequence[Bar], seconds: float, told: str) -> Markup:
    """The batches of a run, where in its time each was committed."""
    most, height = max((bar.records for bar in bars), default=0) or 1, 90
    room, drawn = WIDE - LEFT - RIGHT, Markup("")
    width = max(1.5, min(14.0, room / max(len(bars), 1) - 1))
    for bar in bars:
        tall = max(3.0, (height - 26) * bar.records / most)
        across = LEFT + (room - width) * min(max(bar.at / seconds if seconds else 0, 0), 1)
        shape = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
        drawn += shape.format("bar bad" if bar.bad else "bar", across, height - 18 - tall, width, tall, bar.told)
    axis = Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, height - 18, WIDE - RIGHT)
    ends = written(LEFT, height - 4, "0 s", "start") + written(WIDE - RIGHT, height - 4, f"{seconds:,.1f} s", "end")
    return framed(drawn + axis + ends, told, WIDE, height, "chart")


def prices(points: Sequence[Point], told: str) -> Markup:
    """Prices over time with the first, the last, the lowest and the highest written at their places."""
    low, high = min(points, key=lambda point: point.low), max(points, key=lambda point: point.high)
    start, length = points[0].at, max((points[-1].at - points[0].at).total_seconds(), 1.0)
    bottom, rise = float(low.low), float(high.high - low.low) or 1.0

    def across(point: Point) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * ((point.at - start).total_seconds() / length if len(points) > 1 else 0.5)

    def up(price: Decimal) -> float:
        return HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * (float(price) - bottom) / rise

    line = " ".join(f"{across(point):.1f},{up(point.price):.1f}" for point in points)
    drawn = Markup('<polyline class="line" points="{}"/>').format(line)
    for point, price, kind in ((low, low.low, "min"), (high, high.high, "max"), (points[0], None, "first"), (points[-1], None, "last")):
        value = point.price if price is None else price
        drawn += Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
            kind, across(point), up(value), f"{kind} {value:f} on {moment(point.at)}"
        )
    drawn += beside(across(high), 24, f"max {high.high:f}") + beside(across(low), HIGH - BOTTOM + 26, f"min {low.low:f}")
    drawn += written(LEFT, HIGH - 8, f"first {points[0].price:f}", "start", moment(points[0].at))
    drawn += written(WIDE - RIGHT, HIGH - 8, f"last {points[-1].price:f}", "end", moment(points[-1].at))
    return framed(drawn, told, WIDE, HIGH, "chart")


def beside(x: float, y: float, text: str) -> Markup:
    """Text at a place, kept inside the picture."""
    return written(x, y, text, "start" if x < WIDE / 4 else "end" if x > WIDE * 3 / 4 else "middle")


def written(x: float, y: float, text: str, anchor: str, date: str = "") -> Markup:
    """Text in a picture; a date is left out where there is little room."""
    more = Markup('<tspan class="date"> · {}</tspan>').format(date) if date else Markup("")
    return Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}{}</text>').format(x, y, anchor, text, more)


def moment(at: datetime) -> str:
    """A moment as a chart writes it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
