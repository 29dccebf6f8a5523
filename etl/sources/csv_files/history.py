"""Price histories in files: a date and a price in every row, the asset in a column or named by whoever loads the file. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from operator import itemgetter
from typing import Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

from etl.errors import SourceError
from etl.source import Payload, Row, Unreadable
from etl.sources.csv_files.columns import FIELDS, IDENTITY
from etl.sources.csv_files.currency import find_currencies
from etl.sources.csv_files.dialect import Candidate, Dialect, find_candidates, open_sample, read_currencies, settle
from etl.sources.csv_files.record import CATEGORY, SCHEMAS, ValidatedBy, check, in_utc, make_id
from etl.sources.csv_files.rows import parse
from etl.sources.csv_files.text import one_line, show
from etl.sources.csv_files.words import read_words

NEEDED = frozenset({"price", "updated_at"})
POINT = ("updated_at", "price", "market_cap", "volume_24h")
KEYED = (*IDENTITY, *POINT)
Values = tuple[Any, ...]
# A time, in UTC where it names no zone, that no calendar can refuse: a day up to the 28th. It stays text, which spares a Python call.
PLAIN_TIME = (
    r"^(?:199[0-9]|20[0-9]{2})-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?Z?)?$"
)


def sniff_history(sample: bytes, *, ended: bool, asset: str | None) -> Dialect:
    """Read the beginning of a price history. Raises SourceError with the one reason why it cannot be loaded, and what would work."""
    encoding, text = open_sample(sample, ended=ended)
    best, currencies = read_currencies(max(find_candidates(text, {}), key=rate))
    currencies = currencies or find_currencies(best.header, best.rows, [])
    columns = best.mapping.columns
    if not columns.keys() >= NEEDED:
        named = show([cell for cell in best.header if cell.strip()])
        raise SourceError(f"has no columns with a date and a price in US dollars among {named}: name them date and price", permanent=True)
    if asset is None and columns.keys().isdisjoint(IDENTITY):
        told = "is a price history that names no asset: load it with `kasparro-etl backfill --file PATH --asset ID`"
        raise SourceError(told, permanent=True)
    if asset is not None and len(others := assets_of(best)) > 1:
        raise SourceError(f"names several assets ({show(others)}): leave --asset out", permanent=True)
    dialect = settle(best, currencies, text, encoding)
    if "updated_at" not in dialect.columns:
        reason = dialect.ignored["updated_at"]
        raise SourceError(f"has dates that cannot be read ({reason}): write them as 2026-01-31", permanent=True)
    return without_coins(dialect)


def rate(candidate: Candidate) -> tuple[bool, int, float]:
    """What makes one way to read a history better than another."""
    return candidate.mapping.columns.keys() >= NEEDED, *candidate.rating[1:]


def assets_of(candidate: Candidate) -> list[str]:
    """The assets that a sample names."""
    columns = candidate.mapping.columns
    at = next((columns[name] for name in IDENTITY if name in columns), None)
    cells = [row[at].strip() for row in candidate.rows if at is not None and at < len(row)]
    return list(dict.fromkeys(cell for cell in cells if cell))


def without_coins(dialect: Dialect) -> Dialect:
    """Leave out a volume that may be in coins: it says that it is in dollars, or stands beside figures that are."""
    at = dialect.columns.get("volume_24h")
    if at is None or "market_cap" in dialect.columns:
        return dialect
    words = set(read_words(dialect.header[at]))
    adjusted = any({"adj", "close"} <= set(read_words(cell)) for cell in dialect.header)
    if adjusted or words & {"usd", "quote"}:
        return dialect
    dialect.ignored["volume_24h"] = f"{one_line(dialect.header[at])} does not say that it is in US dollars"
    del dialect.columns["volume_24h"]
    return dialect


def schemas(names: tuple[str, ...]) -> list[core_schema.CoreSchema]:
    """What the cells of some fields must be."""
    plain = core_schema.str_schema(pattern=PLAIN_TIME)
    rules = {name: SCHEMAS[FIELDS.index(name)] for name in names}
    moment = core_schema.union_schema([plain, rules["updated_at"]], mode="left_to_right")
    return list((rules | {"updated_at": moment}).values())


def check_point(values: Values) -> Values:
    """Refuse a row without a date or a price."""
    if not values[-4]:
        raise PydanticCustomError("csv_point", "row has no date")
    if not values[-3]:
        raise PydanticCustomError("csv_point", "row has no price")
    return values


def check_keyed(values: Values) -> Values:
    """Refuse also a row that names no asset, or prices it in another currency."""
    return (*check(values[:3]), *check_point(values)[3:])


POINT_RECORD = Annotated[
    tuple[Any, ...], ValidatedBy(core_schema.no_info_after_validator_function(check_point, core_schema.tuple_schema(schemas(POINT))))
]
KEYED_RECORD = Annotated[
    tuple[Any, ...], ValidatedBy(core_schema.no_info_after_validator_function(check_keyed, core_schema.tuple_schema(schemas(KEYED))))
]


def parser(names: tuple[str, ...]) -> Callable[[Payload], Iterator[Values | Unreadable]]:
    """Make what yields the cells of some fields of a block's rows."""
    pick = itemgetter(*(FIELDS.index(name) for name in names))
    return lambda payload: (cells if isinstance(cells, Unreadable) else pick(cells) for cells in parse(payload))


def point_of(external_id: str) -> Callable[[Values], Row]:
    """Make what turns validated cells into a point of one asset."""
    return lambda values: point(external_id, *values)


def keyed_point(values: Values) -> Row:
    """Turn validated cells into a point of the asset that they name."""
    external_id, symbol, name, *rest = values
    if symbol and symbol.islower():
        symbol = symbol.upper()
    return point(external_id or make_id(symbol, name), *rest)


def point(external_id: str, at: datetime | str, price: str, cap: str | None, volume: str | None) -> Row:
    """A point as a row; its time is in UTC unless it names its zone, the day alone is the day's beginning."""
    if not isinstance(at, str):
        at = in_utc(at)
    elif at[-1] != "Z":
        at += "Z" if len(at) > 10 else " 00:00:00Z"
    return Row("asset", external_id, None, external_id, CATEGORY, price, cap or None, volume or None, None, None, None, None, at)


def identify_keyed(values: Values) -> str | None:
    """The asset of a row that did not validate, as far as its cells tell."""
    external_id, symbol, name = (" ".join(cell.split()) for cell in values[:3])
    return external_id or make_id(symbol, name) or None
