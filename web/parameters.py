"""The types of query parameters: strict about digits, dates and characters, so that nothing reaches Postgres that it cannot take. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from werkzeug.routing import IntegerConverter, PathConverter

from web.cursor import LONGEST

WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
NUMBER = re.compile(r"[0-9]{1,40}(\.[0-9]{1,60})?", re.ASCII)
TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(Z|[ +-]\d\d:\d\d)?)?", re.ASCII)
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def read_whole(value: Any) -> Any:
    """Accept a whole number in plain digits. Raises ValueError on `1e3`, `1_000` and other scripts' digits."""
    if isinstance(value, str):
        if not WHOLE.fullmatch(value):
            raise ValueError("expected a whole number of at most 18 digits, for example 100")
        return int(value)
    return value


def read_amount(value: Any) -> Any:
    """Accept a number in plain digits. Raises ValueError on anything else."""
    if isinstance(value, str):
        if not NUMBER.fullmatch(value):
            raise ValueError("expected a number, for example 0.25")
        return Decimal(value)
    return value


def write_amount(value: Decimal) -> str:
    """Write a number in plain digits, all of them, so that it can be asked for again."""
    return f"{value:f}"


def read_time(value: Any) -> Any:
    """Accept an ISO 8601 date or time, UTC where it names no zone; a `+` that a query string turned into a blank is a `+`."""
    if not isinstance(value, str):
        return value
    parts = TIME.fullmatch(value)
    if not parts or not "1900" <= value[:4] <= "2200":
        raise ValueError("expected a time between 1900 and 2200, for example 2026-01-31T12:00:00Z")
    zone = (parts[3] or "+00:00").replace("Z", "+00:00").replace(" ", "+")
    try:
        return datetime.fromisoformat(f"{parts[1]}T{parts[2] or '00:00'}{zone}").astimezone(UTC)
    except ValueError:
        raise ValueError("expected a time that exists, for example 2026-01-31T12:00:00Z") from None


def is_storable(text: str) -> bool:
    """Whether Postgres could hold a text of a path."""
    return CONTROL.search(text) is None


def refuse_controls(value: str) -> str:
    """Pass text on. Raises ValueError when it holds control characters."""
    if CONTROL.search(value):
        raise ValueError("holds a control character")
    return value


class Id(IntegerConverter):
    """An id in a path: one way to write each, so neither other scripts' digits nor leading zeros."""

    regex = "(?:0|[1-9][0-9]{0,999})"


class Rest(PathConverter):
    """The rest of a path: ids hold slashes, and one from a file or a feed may begin with one."""

    regex, part_isolating = ".+?", False


Whole = Annotated[int, BeforeValidator(read_whole, json_schema_input_type=int)]
Amount = Annotated[
    Decimal,
    BeforeValidator(read_amount),
    PlainSerializer(write_amount, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,40}(\\.[0-9]{1,60})?$", "maxLength": 101}),
]
Time = Annotated[AwareDatetime, BeforeValidator(read_time), WithJsonSchema({"type": "string", "format": "date-time"})]
PLAIN = {"pattern": "^[^\\u0000-\\u001f\\u007f]+$"}
"""What `refuse_controls` passes, for the document."""
Text = Annotated[str, AfterValidator(refuse_controls), Field(min_length=1, max_length=500, json_schema_extra=PLAIN)]
Cursor = Annotated[str, AfterValidator(refuse_controls), Field(min_length=1, max_length=LONGEST, json_schema_extra=PLAIN)]
Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]
"""A number of an answer: digit for digit as stored."""
