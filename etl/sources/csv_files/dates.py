"""Dates as files write them into moments in UTC; a day and a month that could be swapped need the column's order. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from etl.sources.csv_files.amounts import is_null

FIRST = datetime(1990, 1, 1, tzinfo=UTC)
LAST = datetime(2100, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"]
MONTH_NUMBERS = {name: number for number, month in enumerate(MONTHS, 1) for name in (month, month[:3])} | {"sept": 9}

TIME = (
    r"(?:(?:,?\s+(?:at\s+)?|T)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?)?(?:\s*(?P<zone>Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}|[+-][0-9]{2}))?(?:\s+UTC|\s+\(UTC\))?"
)
WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[,.]?\s+)?"
MONTH = r"(?P<month>[a-z]{3,9})"
DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
YEAR = r"(?P<year>[0-9]{4}|[0-9]{2})"
FORMATS = tuple(
    re.compile(pattern + TIME, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})",
        r"(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})",
        rf"{WEEKDAY}{DAY}[\s./-]+(?:of\s+)?{MONTH}[\s.,/-]+'?{YEAR}",
        rf"{WEEKDAY}{MONTH}[\s./-]+{DAY}[\s,./-]+'?{YEAR}",
    )
)
EPOCH = re.compile(r"([0-9]{9,19})(?:\.([0-9]+))?|([0-9])\.([0-9]+)e\+?([0-9]{1,2})", re.ASCII | re.IGNORECASE)
SWAPPABLE = re.compile(r"([0-9]{1,2})([./-])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})(?=$|[\sT,])(.*)", re.ASCII | re.DOTALL)


@lru_cache(maxsize=4096)
def clean_date(text: str) -> datetime | None:
    """Read a moment, UTC when no zone is named, None for a null token. Raises ValueError on anything else, or outside 1990 to 2100."""
    if is_null(text):
        return None
    text = " ".join(text.split())
    moment = read_epoch(text) or read_written(text)
    if moment is None or not FIRST <= moment <= LAST:
        raise ValueError("not a date")
    return moment


def read_epoch(text: str) -> datetime | None:
    """Read seconds, milli-, micro- or nanoseconds since 1970."""
    if not EPOCH.fullmatch(text):
        return None
    value = float(text)
    if value < 6e8:
        return None
    while value >= 1e11:
        value /= 1000
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)


def read_written(text: str) -> datetime | None:
    """Read a date in one of the forms that leave no doubt which is the day and which the month."""
    found = next(filter(None, (form.fullmatch(text) for form in FORMATS)), None)
    if not found:
        return None
    year = read_year(found["year"])
    if not FIRST.year <= year <= LAST.year:
        return None
    month = int(found["month"]) if found["month"].isdigit() else read_month(found["month"])
    hour = int(found["hour"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("not a time")
        hour = hour % 12 + 12 * (found["half"].lower() == "p")
    zone = timezone(read_zone(found["zone"] or ""))
    fraction = int((found["fraction"] or "0")[:6].ljust(6, "0"))
    minute, second = int(found["minute"] or 0), int(found["second"] or 0)
    moment = datetime(year, month, int(found["day"]), hour, minute, second, fraction, zone)
    return moment.astimezone(UTC)


def read_month(name: str) -> int:
    """Number a month by its English name or the first letters of it. Raises ValueError on any other word."""
    if name.lower() not in MONTH_NUMBERS:
        raise ValueError("not a month")
    return MONTH_NUMBERS[name.lower()]


def read_year(digits: str) -> int:
    """Complete a year of two digits."""
    year = int(digits)
    return year if len(digits) == 4 else year + (2000 if year < 70 else 1900)


def read_zone(text: str) -> timedelta:
    """Read an offset such as +05:30."""
    if not text or text.upper() in ("Z", "UTC", "GMT"):
        return timedelta()
    digits = text[1:].replace(":", "").ljust(4, "0")
    return (1 if text[0] == "+" else -1) * timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))


def find_order(cells: Iterable[str]) -> str:
    """Decide from a column's cells what comes first: `dmy`, `mdy`, `` when no cell needs it, `?` when they do not tell."""
    orders: set[str] = set()
    for cell in cells:
        found = SWAPPABLE.fullmatch(cell.strip())
        if not found:
            continue
        first, second = int(found[1]), int(found[3])
        if (first > 12) != (second > 12):
            orders.add("dmy" if first > 12 else "mdy")
        orders.add("dots" if found[2] == "." else "")
    if not orders:
        return ""
    if "dmy" in orders and "mdy" in orders:
        return "?"
    # Dots are written between day and month, in this order, wherever they are written at all.
    return "mdy" if "mdy" in orders else "dmy" if "dmy" in orders or "" not in orders else "?"


def put_order(text: str, order: str) -> str:
    """Rewrite a date whose day and month could be swapped as an ISO date; any other text stays as it is."""
    found = SWAPPABLE.fullmatch(text.strip())
    if not found:
        return text
    day, month = (found[1], found[3]) if order == "dmy" else (found[3], found[1])
    return f"{read_year(found[4]):04d}-{month:0>2}-{day:0>2}{found[5]}"
