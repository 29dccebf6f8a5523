"""What `GET /data` and its export can be asked: filters, order, page and columns. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from shared.model import SourceType
from web.endpoints import Query
from web.errors import Problem
from web.parameters import Amount, Cursor, Text, Time, Whole
from web.statements import COLUMNS

Key = Literal["id", "updated_at", "price_usd", "market_cap_usd", "rank", "name"]
Down = Literal["-id", "-updated_at", "-price_usd", "-market_cap_usd", "-rank", "-name"]
Sort = Literal[Key, Down]
ORDER = """order, `-` for descending; ties by id, records without a value last; by default `updated_at` when only some time is asked for,
else `id`"""


def read_fields(value: Any) -> Any:
    """Split a comma-separated list of columns. Raises ValueError on one that does not exist."""
    if not isinstance(value, str):
        return value
    names = tuple(dict.fromkeys(value.split(",")))
    if not set(names) <= set(COLUMNS):
        raise ValueError(f"expected some of {','.join(COLUMNS)}")
    return names


def read_words(value: str) -> str:
    """Accept what an index can look for. Raises ValueError when there is neither a word nor the beginning of one."""
    if not re.search(r"[^\W_]{3}|^[^\W_]", value):
        raise ValueError("expected text that begins with a letter or a digit, or has three of them in a row")
    return value


ANY = f"({'|'.join(COLUMNS)})"
FIELDS = {"type": "string", "pattern": f"^{ANY}(,{ANY})*$", "examples": ["symbol,price_usd"]}
Fields = Annotated[tuple[str, ...], BeforeValidator(read_fields), WithJsonSchema(FIELDS)]
Words = Annotated[Text, AfterValidator(read_words)]


class Filters(Query):
    """Which records."""

    source: Text | None = Field(None, description="only of this source")
    source_type: SourceType | None = Field(None, description="only of sources of this type")
    kind: Literal["asset", "article"] | None = Field(None, description="only assets, or only articles")
    category: Text | None = Field(None, description="only of this category, as it is spelt")
    symbol: Text | None = Field(None, description="only with this symbol, in any case")
    q: Words | None = Field(
        None, description="text in the symbol or in the name or title, in any case; shorter than three letters: where one of them begins"
    )
    status: Literal["active", "inactive"] | None = Field(None, description="only in this state")
    updated_since: Time | None = Field(None, description="only changed at this time or later")
    updated_before: Time | None = Field(None, description="only changed before this time")
    min_price: Amount | None = Field(None, description="only at this price in USD or above")
    max_price: Amount | None = Field(None, description="only at this price in USD or below")
    min_market_cap: Amount | None = Field(None, description="only with this market capitalisation in USD or more")
    fields: Fields | None = Field(None, description=f"columns to answer with, with commas between: {', '.join(COLUMNS)}")


class DataQuery(Filters):
    """Which records, and which page of them in which order."""

    sort: Sort | None = Field(None, description=ORDER)
    limit: Whole = Field(100, ge=1, le=1000, description="how many")
    offset: Whole | None = Field(None, ge=0, le=100_000, description="how many to skip; a cursor goes further")
    cursor: Cursor | None = Field(None, description="`next_cursor` of the page before")

    @model_validator(mode="after")
    def refuse_both(self) -> Self:
        """Refuse a page that is named twice."""
        if self.cursor is not None and self.offset is not None:
            raise refused("is given beside offset")
        return self

    @property
    def order(self) -> str:
        """The sort that was asked for; what is chosen by time lies together in the order of time, and may lie anywhere in that of ids."""
        return self.sort or ("updated_at" if self.updated_since or self.updated_before else "id")


def refused(reason: str) -> Problem:
    """A cursor that cannot be followed."""
    return Problem(400, "not understood: cursor: see errors, and /docs for what is", errors=[{"parameter": "cursor", "reason": reason}])
