"""What a row must be to be loaded, as one pydantic-core schema over a plain tuple, and what it becomes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

from etl.source import Row
from etl.sources.csv_files.amounts import PLAIN, clean_amount, clean_percent, clean_rank, is_no_symbol, is_null
from etl.sources.csv_files.currency import QUOTES, is_dollar, says_other, split_pair
from etl.sources.csv_files.dates import FIRST, LAST, clean_date

CATEGORY = "cryptocurrency"
# Text that is clean and no null token for certain; the rest costs a Python call.
CLEAN = r"^(?:(?:[^\s\x00NnUuTt#?\-\x{2013}\x{2014}]|[Nn][^\s\x00AaUuOoIi/.]|[Uu][^\s\x00Nn]|[Tt][^\s\x00Bb])[^\s\x00]*(?: [^\s\x00]+)*)?$"
# A time in UTC that no calendar can refuse: a day up to the 28th.
UTC_TIME = (
    r"^(?:199[0-9]|20[0-9]{2})-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])[T ]"
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?Z$"
)
TOTALS = frozenset({"total", "totals", "sum", "grand total"})
Values = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class ValidatedBy:
    """Tells pydantic which core schema stands for the annotated type."""

    schema: core_schema.CoreSchema

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return self.schema


def clean_text(limit: int, is_null: Callable[[str], bool] = is_null) -> Callable[[str], str | None]:
    """Make a cleaner of text: one line, no blanks around or doubled, None for a null token."""

    def clean(text: str) -> str | None:
        value = " ".join(text.split())
        if is_null(value):
            return None
        if len(value) > limit or "\0" in value or (not value.isprintable() and has_surrogate(value)):
            raise ValueError("not clean text")
        return value

    return clean


def has_surrogate(text: str) -> bool:
    """Tell text that is no Unicode: what was left of bytes that are invalid in the file's encoding."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def either(name: str, expected: str, fast: list[core_schema.CoreSchema], slow: Callable[[str], Any]) -> core_schema.CoreSchema:
    """Try what needs no Python call first; one message, whatever failed."""
    choices: list[core_schema.CoreSchema | tuple[core_schema.CoreSchema, str]] = [*fast, core_schema.no_info_plain_validator_function(slow)]
    message = f"{name}: expected {expected}"
    return core_schema.union_schema(choices, mode="left_to_right", custom_error_type="csv_cell", custom_error_message=message)


def text_schema(name: str, limit: int, is_null: Callable[[str], bool] = is_null) -> core_schema.CoreSchema:
    """Text of one line, at most `limit` characters."""
    fast = core_schema.str_schema(pattern=CLEAN, max_length=limit)
    return either(name, f"at most {limit} characters of valid text, without NUL", [fast], clean_text(limit, is_null))


def number_schema(name: str, expected: str, pattern: str, slow: Callable[[str], str | None]) -> core_schema.CoreSchema:
    """A number that stays text, or nothing."""
    return either(name, expected, [core_schema.str_schema(pattern=f"^(?:{pattern})?$")], slow)


def date_schema(name: str) -> core_schema.CoreSchema:
    """A moment between 1990 and 2100, or nothing. The form that Postgres reads without doubt stays text."""
    plain = core_schema.str_schema(pattern=UTC_TIME)
    moment = core_schema.datetime_schema(ge=FIRST, le=LAST, microseconds_precision="truncate")
    fast = core_schema.chain_schema([core_schema.str_schema(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"), moment])
    expected = "a date between 1990 and 2100 such as 2022-03-16T12:00:00Z"
    return either(name, expected, [core_schema.str_schema(max_length=0), plain, fast], clean_date)


AMOUNT = "a number in US dollars, not negative, such as 1234.56, $1,234.56 or 1.2M"
SCHEMAS: tuple[core_schema.CoreSchema, ...] = (
    text_schema("external_id", 500),
    text_schema("symbol", 100, is_no_symbol),
    text_schema("name", 500),
    number_schema("price", AMOUNT, PLAIN, clean_amount),
    number_schema("market_cap", AMOUNT, PLAIN, clean_amount),
    number_schema("volume_24h", AMOUNT, PLAIN, clean_amount),
    number_schema("percent_change_24h", "a percentage such as -0.60 or +2.01%", f"-?{PLAIN}%?", clean_percent),
    number_schema("rank", "a whole number from 0 to 2147483647", r"[1-9][0-9]{0,8}", clean_rank),
    date_schema("updated_at"),
    text_schema("url", 2000),
    text_schema("category", 500),
    text_schema("tags", 10_000),
)


def check(values: Values) -> Values:
    """Refuse a row that names no asset or is a total, and take pairs apart."""
    external_id, symbol, name = values[:3]
    if not (external_id or symbol or name):
        raise PydanticCustomError("csv_identity", "row has no id, symbol or name")
    if not symbol and not external_id and name.casefold() in TOTALS:
        raise PydanticCustomError("csv_total", "row is a total")
    if symbol and not symbol.isalnum():
        values = check_pair(values, 1)
    if name and name.isupper() and not name.isalnum():
        values = check_pair(values, 2)
    return check_pair(values, 0) if external_id and external_id.isupper() and not external_id.isalnum() else values


def check_pair(values: Values, place: int) -> Values:
    """Name the asset of a pair by its base. Raises PydanticCustomError for a quote other than dollars."""
    pair = split_pair(values[place])
    if not pair or (place != 1 and pair[1].casefold() not in QUOTES):
        return values
    if not is_dollar(pair[1]):
        raise PydanticCustomError("csv_currency", "{reason}", {"reason": says_other(pair[1])})
    return (*values[:place], pair[0], *values[place + 1 :]) if place else values


RECORD = Annotated[
    tuple[Any, ...],
    ValidatedBy(core_schema.no_info_after_validator_function(check, core_schema.tuple_schema(list(SCHEMAS)))),
]


def normalize(values: Values) -> Row:
    """Turn validated values into a row; an id that the file does not give is made of symbol and name."""
    external_id, symbol, name, price, cap, volume, change, rank, updated, url, category, tags = values
    if symbol and symbol.islower():
        symbol = symbol.upper()
    return Row(
        "asset",
        external_id or make_id(symbol, name),
        symbol or None,
        name or symbol or external_id,
        category or CATEGORY,
        price or None,
        cap or None,
        volume or None,
        change.rstrip("%") if change else None,
        rank or None,
        url or None,
        write_tags(tags) if tags else None,
        in_utc(updated) if updated else None,
    )


def identify(values: Values) -> str | None:
    """The external id that a row would have had, as far as its cells tell."""
    external_id, symbol, name = (" ".join(cell.split()) for cell in values[:3])
    return external_id or make_id(symbol, name) or None


def make_id(symbol: str | None, name: str | None) -> str:
    """Name an asset by its symbol and name: `btc-bitcoin`."""
    return "-".join(part.lower().replace(" ", "-") for part in (symbol, name) if part)


def in_utc(moment: datetime | str) -> datetime | str:
    """Take a moment without a zone as UTC."""
    return moment if isinstance(moment, str) or moment.tzinfo else moment.replace(tzinfo=UTC)


def write_tags(text: str) -> str | None:
    """Write a list of tags, `a, b`, `a;b`, `['a', 'b']`, as a Postgres array."""
    parts = [" ".join(part.split()) for part in read_tags(text)]
    quoted = ('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in dict.fromkeys(parts) if not is_null(part))
    return "{" + ",".join(quoted) + "}" if any(not is_null(part) for part in parts) else None


def read_tags(text: str) -> list[str]:
    """Split a cell into its tags."""
    if text[0] + text[-1] in ("[]", "{}", "()"):
        text = text[1:-1]
        if quoted := re.findall(r"'([^']*)'|\"([^\"]*)\"", text):
            return [single or double for single, double in quoted]
    sign = next((sign for sign in (";", "|", ",") if sign in text), ",")
    return text.split(sign)
