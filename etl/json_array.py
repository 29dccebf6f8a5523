"""Payloads that are one JSON array of objects, as both price providers send: parsing without a float, and the field types. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StringConstraints

from etl.errors import SourceError
from etl.source import Payload
from shared.excerpts import cut_array, read_json


def read_digits(text: str) -> Decimal:
    """Every number is read as a Decimal: all digits are kept, and NaN, 5,000 digits or an absurd exponent spoil their own record only."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


decoder = json.JSONDecoder(parse_float=read_digits, parse_int=read_digits, parse_constant=read_digits)
MOST_VALUES = 1_000_000
"""Twice the fields of all the coins there are; nine megabytes of empty objects would take a quarter of a gigabyte."""
EXACT, LEAST = Context(prec=110), Decimal("1e-60")
"""Room for all digits of a number that is allowed, and the last decimal place that one may have."""
NUMERIC = re.compile(r"\s*[+-]?[0-9.]+\s*")


def parse(payload: Payload) -> Iterator[Any]:
    """Yield the elements of the array. Raises SourceError when the body is anything else."""
    if (values := payload.body.count(b",")) > MOST_VALUES:
        raise SourceError(f"{payload.url} answered with {values} values, at most {MOST_VALUES} are read: check the address", permanent=True)
    try:
        value = decoder.decode(text(payload))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{payload.url} did not answer with JSON ({shown(payload.body)}): try again later") from error
    if not isinstance(value, list):
        raise SourceError(f"{payload.url} did not answer with a list ({shown(payload.body)}): check the address")
    yield from value


def excerpts(payload: Payload, positions: Collection[int]) -> dict[int, bytes]:
    """Cut the elements at some positions out of the body, byte for byte."""
    return cut_array(payload.body, positions)


def identify(value: Any) -> str | None:
    """The id of an element, valid or not."""
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def text(payload: Payload) -> str:
    """The body as text; a byte that is no UTF-8 costs its own record only."""
    return read_json(payload.body)


def shown(body: bytes) -> str:
    """The beginning of a body for a message, on one line."""
    start = " ".join(body[:60].decode("utf-8", "replace").split())
    return "an empty body" if not body.strip() else f"it begins with {start!r}"


def read_number(value: Any) -> Decimal | None:
    """Accept a number as sent, or null. Raises ValueError on text, NaN, infinity and magnitudes no price has."""
    if value is None:
        return None
    if not isinstance(value, Decimal):
        raise ValueError("expected a number")
    if not value.is_finite():
        raise ValueError("expected a finite number")
    if value and (value.adjusted() > 40 or EXACT.quantize(value, LEAST) != value):
        raise ValueError("expected a number below 1e40 with at most 60 decimals")
    return value


def read_positive(value: Any) -> Decimal | None:
    """Accept a number that is not below zero, or null. Raises ValueError."""
    number = read_number(value)
    if number is not None and number < 0:
        raise ValueError("expected a number that is not negative")
    return number


def read_rank(value: Any) -> int | None:
    """Accept a whole number, or null. Raises ValueError."""
    number = read_number(value)
    if number is None:
        return None
    if number != int(number) or not 0 <= number <= 2_147_483_647:
        raise ValueError("expected a whole number from 0 to 2147483647")
    return int(number)


def read_text(value: Any) -> str:
    """Fold blanks and refuse what Postgres cannot hold. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("expected a text")
    if "\x00" in value:
        raise ValueError("contains a NUL character")
    return " ".join(value.split())


def read_stamp(value: Any) -> Any:
    """Accept a time as text only: a number would be taken for an epoch. Raises ValueError."""
    if value is not None and (not isinstance(value, str) or NUMERIC.fullmatch(value)):
        raise ValueError("expected a time such as 2026-01-31T12:00:00Z")
    return value or None


def read_year(value: datetime | None) -> datetime | None:
    """Take a time without a zone as UTC and refuse years no market has. Raises ValueError."""
    if value is None:
        return None
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    if not 1990 <= value.year <= 2100:
        raise ValueError("expected a time between 1990 and 2100")
    return value


Amount = Annotated[Decimal | None, PlainValidator(read_number)]
NonNegative = Annotated[Decimal | None, PlainValidator(read_positive)]
Rank = Annotated[int | None, PlainValidator(read_rank)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500), BeforeValidator(read_text)]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200), BeforeValidator(read_text)]
Stamp = Annotated[datetime | None, AfterValidator(read_year), BeforeValidator(read_stamp), Field()]
