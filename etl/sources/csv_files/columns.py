"""Which column of a header holds which field: a score for every cell, the best column wins. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from etl.sources.csv_files.words import read_words

FIELDS: tuple[str, ...] = (
    "external_id",
    "symbol",
    "name",
    "price",
    "market_cap",
    "volume_24h",
    "percent_change_24h",
    "rank",
    "updated_at",
    "url",
    "category",
    "tags",
)
IDENTITY = ("external_id", "symbol", "name")

FILLER = frozenset(
    {"the", "in", "of", "per", "a", "is", "by", "for", "as", "quote", "quotes", "quotation", "metrics", "metric", "data", "market",
     "value", "values", "current", "latest", "live", "now", "today", "unit", "spot", "asset", "coin", "crypto", "token",
     "currency", "info", "raw", "display", "total", "stats", "statistics", "last", "intraday", "real", "time", "utc", "gmt", "usd"}
)  # fmt: skip
THINGS = frozenset({"coin", "crypto", "asset", "token", "currency", "project", "base", "cmc", "coingecko", "coinpaprika", "cg", "website"})
QUANTITIES = frozenset(
    {"quantity", "qty", "amount", "amounts", "balance", "balances", "holdings", "holding", "units", "shares", "position"}
)

Score = Callable[[frozenset[str]], int]


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a header says: the column of each field, fields named twice, and percent columns that need a look at their cells."""

    columns: dict[str, int]
    doubled: tuple[str, ...] = ()
    bare: tuple[str, ...] = field(default=())


def score_price(words: frozenset[str]) -> int:
    """Rate a column as the price in US dollars."""
    rest = words - FILLER
    if words & {"time", "utc", "gmt", "total"}:
        return 0
    if "currency" in words and "price" in words:
        return 35
    if rest == {"price"}:
        return 100 if "usd" in words else 98 if words == {"price"} else 95
    if words & {"price", "last", "close"} and rest <= {"price", "close", "trade", "traded", "rate", "usdt", "adj", "adjusted"}:
        return 50 if words & {"adj", "adjusted", "usdt"} else 60
    if words == {"rate"}:
        return 30
    return 40 if words in ({"usd"}, {"value", "usd"}, {"rate", "usd"}, {"exchange", "rate", "usd"}, {"usdt"}) else 0


def score_cap(words: frozenset[str]) -> int:
    """Rate a column as the market capitalisation."""
    if words - FILLER - {"circulating", "reported"} == {"mcap"}:
        return 90 if "reported" in words else 100 if "usd" in words else 95
    return 60 if words == {"cap"} else 0


def score_volume(words: frozenset[str]) -> int:
    """Rate a column as the volume of a day."""
    if words & {"coin", "token", "crypto", "asset"} and "quote" not in words:
        return 0
    if "volume" not in words or words - FILLER - {"volume", "24h", "reported", "global", "spot", "exchange"}:
        return 0
    return 70 + 20 * ("24h" in words) + 10 * ("usd" in words) + 5 * ("quote" in words) + 8 * ("total" in words)


def score_change(words: frozenset[str]) -> int:
    """Rate a column as the change of a day in percent; at most 50 when its unit is not said."""
    if words - FILLER - {"24h", "change", "pct", "price", "vs", "rate"} or not words & {"24h", "change"}:
        return 0
    if "pct" in words:
        return 100 if "24h" in words else 60
    return (40 if "price" in words else 50) if "24h" in words else 0


def score_symbol(words: frozenset[str]) -> int:
    """Rate a column as the ticker symbol."""
    if words & {"symbol", "ticker"} and words - THINGS <= {"symbol", "ticker", "code"}:
        return 100 if "symbol" in words else 95
    if "abbr" in words and words <= {"abbr", "name"} | THINGS:
        return 80
    return 50 if words - {"coin", "asset", "token", "crypto", "currency"} == {"code"} else 0


def score_name(words: frozenset[str]) -> int:
    """Rate a column as the name."""
    if "name" in words and words - THINGS <= {"name", "full", "display", "long"}:
        return 100 if words == {"name"} else 97
    plain = {"coin": 70, "crypto": 65, "asset": 60, "token": 60, "project": 55, "currency": 50, "title": 40}
    return plain.get(next(iter(words)), 0) if len(words) == 1 else 45 if len(words) == 2 and words <= THINGS else 0


def score_id(words: frozenset[str]) -> int:
    """Rate a column as the provider's own id."""
    if "id" in words and words - THINGS - {"metrics", "data", "info"} == {"id"}:
        return 100 if words == {"id"} else 95
    if "slug" in words and words - THINGS <= {"slug", "name"}:
        return 80
    return 60 if words in ({"uuid"}, {"coin", "uuid"}, {"key"}, {"coin", "key"}, {"ucid"}, {"asset", "key"}) else 0


def score_rank(words: frozenset[str]) -> int:
    """Rate a column as the rank."""
    if "rank" not in words or words - THINGS - {"rank", "mcap", "market", "current", "now", "coinmarketcap"}:
        return 0
    return 100 if "mcap" in words or words == {"rank"} else 90


def score_date(words: frozenset[str]) -> int:
    """Rate a column as the time at which the figures held."""
    if "updated" in words and words <= {
        "last",
        "updated",
        "at",
        "date",
        "on",
        "time",
        "utc",
        "timestamp",
        "datetime",
        "price",
        "usd",
        "quote",
        "quotes",
    }:
        return 100 if words <= {"last", "updated", "at", "date", "time"} else 90
    if words & {"scraped", "fetched", "retrieved", "crawled", "collected", "recorded", "snapshot", "extracted", "exported", "queried"}:
        return 75 if words & {"at", "date", "time", "on", "timestamp", "datetime"} and "id" not in words else 0
    rest = words - {"utc", "gmt", "iso", "the", "usd", "quote"}
    plain = {"timestamp": 90, "datetime": 85, "date": 80, "time": 60, "day": 50, "data": 50}
    return plain.get(next(iter(rest)), 0) if len(rest) == 1 else 55 if rest in ({"as", "of"}, {"date", "time"}, {"close", "time"}) else 0


def score_words(table: dict[str, int]) -> Score:
    """Make a score for a field that is known by single words."""
    return lambda words: max((table.get(word, 0) for word in words), default=0) if len(words) <= 2 and not words & BARRED else 0


BARRED = frozenset({"image", "logo", "icon", "thumb", "id", "count", "date", "change", "pct", "rank", "price"})

SCORES: dict[str, Score] = {
    "external_id": score_id,
    "symbol": score_symbol,
    "name": score_name,
    "price": score_price,
    "market_cap": score_cap,
    "volume_24h": score_volume,
    "percent_change_24h": score_change,
    "rank": score_rank,
    "updated_at": score_date,
    "url": score_words({"url": 100, "link": 80, "homepage": 70, "website": 70, "href": 60, "permalink": 60}),
    "category": score_words({"category": 100, "sector": 70, "kategorie": 60, "categoria": 60}),
    "tags": score_words({"tags": 100, "tag": 80, "labels": 60, "categories": 60}),
}


def is_holding(header: Sequence[str]) -> bool:
    """Tell a list of what somebody holds: it has a column of quantities."""
    rests = [frozenset(read_words(cell)) - FILLER - THINGS - {"my", "available", "held", "owned", "net", "open"} for cell in header]
    return any(rest and rest <= QUANTITIES for rest in rests)


def score_all(name: str, cell: str, words: frozenset[str], *, holding: bool) -> int:
    """Rate a column for a field; in a list of holdings a value is that of all units, and only a price is that of one."""
    if holding and name == "price" and ("price" not in words or "value" in words):
        return 0
    if holding and name == "market_cap" and "cap" not in cell.casefold():
        return 0
    return SCORES[name](words) if words else 0


def map_columns(header: Sequence[str]) -> Mapping:
    """Give each field its best column; the leftmost of equals, unless they carry the same name."""
    words = [frozenset(read_words(cell)) for cell in header]
    holding = is_holding(header)
    plain = [" ".join(cell.replace("\ufeff", "").casefold().split()) for cell in header]
    columns: dict[str, int] = {}
    doubled: list[str] = []
    taken: set[int] = set()
    for name in SCORES:
        rated = [(score_all(name, header[at], cell, holding=holding), -at) for at, cell in enumerate(words) if at not in taken]
        best, where = max(rated, default=(0, 0))
        if not best:
            continue
        columns[name] = -where
        taken.add(-where)
        if any(points == best and plain[-other] == plain[-where] for points, other in rated if other != where):
            doubled.append(header[-where].strip())
    change = columns.get("percent_change_24h", -1)
    bare = ("price",) if change >= 0 and "price" in words[change] else ("24h",)
    return Mapping(columns, tuple(doubled), bare if change >= 0 and "pct" not in words[change] else ())
