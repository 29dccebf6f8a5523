"""Numbers as people write them into digits that Postgres reads, exactly; also ranks and null tokens. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

NULLS = frozenset(
    {"", "-", "--", "- -", "---", "\u2013", "\u2014", "?", "n/a", "#n/a", "na", "n.a.", "nan", "#null!",
     "null", "none", "nil", "unknown", "tbd", "tba"}
)  # fmt: skip
NO_SYMBOL = NULLS - {"na", "n.a.", "nil", "none", "unknown", "tbd", "tba", "#null!"}
SCALES = {
    "": 0,
    "k": 3,
    "thousand": 3,
    "m": 6,
    "mn": 6,
    "mln": 6,
    "mio": 6,
    "million": 6,
    "b": 9,
    "bn": 9,
    "bln": 9,
    "billion": 9,
    "t": 12,
    "tn": 12,
    "trillion": 12,
}
PLAIN = r"[0-9]{1,40}(?:\.[0-9]{1,100})?"
SIMPLE = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
MAX_RANK = 2_147_483_647

MINUS = str.maketrans(dict.fromkeys("\u2212\u2010\u2011\u2013\u2014\ufe63\uff0d", "-"))
GAPS = re.compile(r"(?<=[0-9])(?<!(?<![0-9])0)[ '\u2019\u00a0\u202f\u2009\u066c](?=[0-9]{3}(?![0-9]))")
DOLLAR = r"(?:us\s?\$|usd\s?\$?|\$)"
CORE = r"(?P<core>[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?:e(?P<exponent>[+-]?[0-9]{1,3}))?"
AMOUNT = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:{DOLLAR})?\s*(?P<inner>[+-]?){CORE}\s*(?P<scale>[a-z]*?)\s*(?P<unit>usd|us\s?\$|\$|us dollars?|%|pct|percent)?",
    re.ASCII | re.IGNORECASE,
)
GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{2,3})*,[0-9]{3}(?:\.[0-9]*)?", re.ASCII)
GLUED = re.compile(r"(\$[0-9.,]+\s?[KMBT])\s?(\$[0-9,]+(?:\.[0-9]+)?)", re.ASCII | re.IGNORECASE)
COMMA = re.compile(r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)?|[0-9]+(?:,[0-9]+)?", re.ASCII)
UNCLEAR = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}[.,][0-9]{3}(?![0-9.,])", re.ASCII)
DIGITS = re.compile(r"[0-9][0-9.,]*", re.ASCII)


def is_null(text: str) -> bool:
    """Tell whether a cell is one of the many ways to say nothing."""
    return text.strip().casefold() in NULLS


def is_no_symbol(text: str) -> bool:
    """Tell whether a symbol says nothing; NA, NIL, NONE and TBD are symbols."""
    return text.strip().casefold() in NO_SYMBOL


def read_cell(cell: str, comma: bool) -> str | None:
    """A cell as what it says: nothing, plain digits, or text."""
    if is_null(cell):
        return None
    text = cell.strip()
    if not comma and SIMPLE.fullmatch(text):
        return text
    if not any(map(str.isdigit, text[:4])):
        return text
    try:
        return clean_number(swap_decimal(text) if comma else text, percent=True)
    except ValueError:
        return text


def is_number(cell: str) -> bool:
    """Tell whether a cell is a number, whatever its decimal sign."""
    for text in (cell.strip(), swap_decimal(cell.strip())):
        try:
            clean_number(text, percent=True)
        except ValueError:
            continue
        return True
    return False


def clean_amount(text: str) -> str | None:
    """Give the plain digits of an amount in US dollars, None for a null token. Raises ValueError on anything else, and below zero."""
    if is_null(text):
        return None
    value = clean_number(text.strip(), percent=False)
    if value.startswith("-"):
        raise ValueError("negative")
    return value


def clean_percent(text: str) -> str | None:
    """Give the plain digits of a percentage, None for a null token. Raises ValueError on anything else."""
    return None if is_null(text) else clean_number(text.strip(), percent=True)


def clean_rank(text: str) -> str | None:
    """Give a rank from 1 up, None for a null token or 0. Raises ValueError on anything else."""
    if is_null(text):
        return None
    value = clean_number(text.strip().removeprefix("#").strip(), percent=False)
    rank = Decimal(value)
    if rank != int(rank) or not 0 <= rank <= MAX_RANK:
        raise ValueError("not a rank")
    return str(int(rank)) if rank else None


def clean_number(text: str, *, percent: bool) -> str:
    """Give the plain digits of one number. Raises ValueError when it is none, or too large or too fine to be one."""
    text = GAPS.sub("", text.translate(MINUS))
    if glued := GLUED.fullmatch(text):
        return pick_exact(*glued.groups())
    negative = text.startswith("(") and text.endswith(")")
    parts = AMOUNT.fullmatch(text[1:-1].strip() if negative else text)
    if not parts or (parts["sign"] and (parts["inner"] or negative)) or (negative and parts["inner"]):
        raise ValueError("not a number")
    if (parts["unit"] or "").lower() in ("%", "pct", "percent") and not percent:
        raise ValueError("a percentage")
    core, scale = parts["core"], parts["scale"].lower()
    if scale not in SCALES or (scale and parts["exponent"]) or ("," in core and not GROUPED.fullmatch(core)):
        raise ValueError("not a number")
    sign = "-" if negative or "-" in (parts["sign"], parts["inner"]) else ""
    return write_plain(Decimal(f"{sign}{core.replace(',', '')}e{int(parts['exponent'] or 0) + SCALES[scale]}"))


def write_plain(value: Decimal) -> str:
    """Write a number without exponent, every digit kept. Raises ValueError beyond 40 digits before or 100 after the point."""
    exponent = int(value.as_tuple().exponent)
    if not value:
        return "0"
    if value.adjusted() >= 40 or exponent < -100:
        raise ValueError("out of bounds")
    return format(value, "f")


def pick_exact(short: str, exact: str) -> str:
    """Take the exact one of two numbers glued together, `$541.43B$541426059990`. Raises ValueError when they differ."""
    rounded, value = (clean_number(part, percent=False) for part in (short, exact))
    if not Decimal(value) * 9 <= Decimal(rounded) * 10 <= Decimal(value) * 11:
        raise ValueError("two numbers")
    return value


def swap_decimal(text: str) -> str:
    """Rewrite a cell of a file with decimal commas, `39.623,0`, with a decimal point; what is not written so stays as it is."""
    text = GAPS.sub("", text)
    return DIGITS.sub(lambda found: found[0].replace(".", "").replace(",", ".") if COMMA.fullmatch(found[0]) else found[0], text)


def says_comma(text: str) -> int:
    """Tell what a cell says of its file's decimal sign: 1 a comma, -1 a point, 0 nothing."""
    found = DIGITS.search(GAPS.sub("", text))
    number = found[0] if found else ""
    comma, point = number.rfind(","), number.rfind(".")
    if comma >= 0 and point >= 0:
        return 1 if comma > point else -1
    sign = "," if comma >= 0 else "." if point >= 0 else ""
    if not sign:
        return 0
    if number.count(sign) > 1:
        return -1 if sign == "," else 1
    whole, _, rest = number.partition(sign)
    decimal = len(rest) != 3 or len(whole) > 3 or whole == "0"
    return (1 if sign == "," else -1) if decimal and rest else 0


def is_unclear(cells: Sequence[str]) -> bool:
    """Tell a column whose only separators may be decimal signs or thousands: `96.123`, `3.456`."""
    told = [cell for cell in cells if "." in cell or "," in cell]
    return bool(told) and all(UNCLEAR.search(cell) for cell in told)
