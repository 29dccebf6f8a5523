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
DIGITS = 8
"""Digits that a price in a chart has at the most, zeros before them aside."""


@dataclass(frozen=True, slots=True)
class Point:
    """A price: how it stood at the end of an interval, and how low and high it was within; `sampled`: of what was looked at."""

    at: datetime
    price: Decimal
    low: Decimal
    high: Decimal
    sampled: bool = False


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
    line = Markup('<polygon class="area" points="0,{} {} {},{}"/><polyline class="line" points="{}"/>')
    drawn = line.format(height, points, width, height, points) if len(values) > 1 else Markup("")
    return framed(drawn, told, width, height, "spark") if drawn else drawn


def framed(inside: Markup, told: str, width: int, height: int, kind: str) -> Markup:
    """A picture with its name in words."""
    head = Markup('<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">')
    return head.format(kind, width, height, width, height, told) + inside + Markup("</svg>")


def timeline(bars: Sequence[Bar], seconds: float, told: str) -> Markup:
    """The batches of a run, where in its time each was committed."""
    most, top, bottom = max((bar.records for bar in bars), default=0) or 1, 26, 92
    room, drawn = WIDE - LEFT - RIGHT, Markup("")
    width = max(1.5, min(14.0, room / max(len(bars), 1) - 1))
    for bar in bars:
        tall = max(3.0, (bottom - top) * bar.records / most)
        across = LEFT + (room - width) * min(max(bar.at / seconds if seconds else 0, 0), 1)
        shape = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
        drawn += shape.format("bar bad" if bar.bad else "bar", across, bottom - tall, width, tall, bar.told)
    drawn = level(top) + drawn + Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, bottom, WIDE - RIGHT)
    drawn += written(LEFT, top - 8, f"{most:,} records", "start")
    ends = written(LEFT, bottom + 28, "start", "start") + written(WIDE - RIGHT, bottom + 28, f"{seconds:,.1f} s", "end")
    return framed(drawn + ends, told, WIDE, bottom + 36, "chart")


def level(y: float) -> Markup:
    """A faint line across a chart."""
    return Markup('<path class="level" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDE - RIGHT)


def prices(points: Sequence[Point]) -> Markup:
    """Prices over time with the first, the last, the lowest and the highest written at their places, shortened where they are long."""
    low, high = min(points, key=lambda point: point.low), max(points, key=lambda point: point.high)
    start, length = points[0].at, max((points[-1].at - points[0].at).total_seconds(), 1.0)
    floor, ceiling, rise = HIGH - BOTTOM, TOP, high.high - low.low

    def across(point: Point) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * ((point.at - start).total_seconds() / length if len(points) > 1 else 0.5)

    def up(price: Decimal) -> float:
        return floor - (floor - ceiling) * (float((price - low.low) / rise) if rise else 0.5)

    line = " ".join(f"{across(point):.1f},{up(point.price):.1f}" for point in points)
    drawn = level(up(high.high)) + level(up(low.low)) + Markup('<polyline class="line" points="{}"/>').format(line)
    ends = extremes(points)
    for kind, point, price in ends:
        drawn += Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
            kind, across(point), up(price), f"{kind} {price:,f} on {moment(point.at)}"
        )
    drawn += beside(across(high), 24, f"max {short(high.high)}") + beside(across(low), floor + 26, f"min {short(low.low)}")
    drawn += written(LEFT, HIGH - 8, f"first {short(points[0].price)}", "start", moment(points[0].at))
    drawn += written(WIDE - RIGHT, HIGH - 8, f"last {short(points[-1].price)}", "end", moment(points[-1].at))
    told = ", ".join(f"{kind} {price:,f} on {moment(point.at)} UTC" for kind, point, price in ends)
    return framed(drawn, f"prices in USD: {told}", WIDE, HIGH, "chart")


def extremes(points: Sequence[Point]) -> tuple[tuple[str, Point, Decimal], ...]:
    """The lowest, the highest, the first and the last price, each with its name and its point."""
    low, high = min(points, key=lambda point: point.low), max(points, key=lambda point: point.high)
    first, last = points[0], points[-1]
    return ("min", low, low.low), ("max", high, high.high), ("first", first, first.price), ("last", last, last.price)


def short(price: Decimal) -> str:
    """A price in few digits, for there is little room in a chart."""
    return f"{price:,f}" if len(f"{price:f}") <= DIGITS + 2 else f"{Decimal(f'{price:.{DIGITS}g}'):,f}"


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
