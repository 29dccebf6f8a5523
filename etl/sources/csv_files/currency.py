"""Whether a file's figures are in US dollars: columns that name a currency, and symbols that are pairs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from etl.errors import SourceError
from etl.sources.csv_files.amounts import is_null, is_number
from etl.sources.csv_files.text import one_line, show
from etl.sources.csv_files.words import read_words

STABLE = frozenset({"usdt", "usdc", "busd", "tusd", "fdusd"})
DOLLARS = STABLE | frozenset(
    {"usd", "us$", "$", "usd$", "$usd", "us", "usdollar", "usdollars", "dollar", "dollars", "unitedstatesdollar", "unitedstatesdollars"}
)
FIAT_NAMES = (
    "eur gbp jpy chf aud cad cny cnh inr krw brl nzd sek nok dkk zar mxn rub try sgd hkd pln czk huf thb idr php myr ils aed sar twd "
    "vnd uah ngn ars clp cop pen ron bgn pkr bdt lkr kwd bhd egp kzt gel € £ ¥ ₹ ₩ ₽ ₺ euro euros pound pounds sterling yen xau xag xdr"
)
FIATS = frozenset(FIAT_NAMES.split())
STATED = FIATS | {"usd", "$", "us$", "us dollar", "us dollars", "dollar"}
QUOTES = FIATS | STABLE | {"usd", "btc", "xbt", "eth", "bnb", "dai", "trx", "sats", "satoshi"}

ASIDE = frozenset({"spot", "current", "last", "latest", "code", "symbol", "name", "ticker", "market"})
QUOTED = frozenset({"asset", "coin", "token", "currency"})
PLAIN = frozenset({"currency", "devise", "wahrung", "valuta", "denomination", "unit"})
TARGETS = frozenset({"quote", "to", "vs", "fiat", "counter", "target", "convert", "tosymbol", "price"})
BASES = frozenset({"base", "from", "fromsymbol"})
CODE = re.compile(r"[A-Za-z]{2,6}|[^\w\s.,-]")
PAIR = re.compile(r"([^\s/_:-]{1,20})([/_:-])([A-Za-z0-9]{2,10})(?::[A-Za-z0-9]+)?")
MAJORS = frozenset({"BTC", "ETH", "BNB", "XRP", "LTC", "SOL", "ADA", "DOGE"})
GLUED = re.compile(r"([A-Z0-9]{2,})(?:USDT|USDC|BUSD|TUSD|FDUSD|USD|BTC|ETH|BNB|EUR|TRY|GBP|JPY|BRL|AUD|KRW|INR)")


@lru_cache(maxsize=1024)
def is_dollar(cell: str) -> bool:
    """Tell a cell that names the US dollar or a coin that stands for it; an empty one says nothing else."""
    pair = split_pair(cell.strip())
    return is_null(cell) or re.sub(r"[\s().\-_]+", "", (pair[1] if pair else cell).casefold()) in DOLLARS


def says_other(cell: str) -> str:
    """Say why a row with this cell in a column of currencies is not loaded."""
    pair = split_pair(cell.strip())
    return f"price is in {one_line(pair[1] if pair else cell)[:20]}, not US dollars"


def split_pair(symbol: str) -> tuple[str, str] | None:
    """Take `BTC/USDT` or `BTC-EUR` apart into base and quote; None for what is no pair."""
    found = PAIR.fullmatch(symbol)
    if not found or (found[2] != "/" and found[3].casefold() not in QUOTES):
        return None
    return found[1], found[3]


def find_currencies(header: Sequence[str], rows: Sequence[Sequence[str]], identity: Sequence[int]) -> list[int]:
    """List the columns that say in which currency a row's price is."""
    return [index for index, cell in enumerate(header) if names_currency(frozenset(read_words(cell)), rows, index, identity)]


def names_currency(words: frozenset[str], rows: Sequence[Sequence[str]], index: int, identity: Sequence[int]) -> bool:
    """Tell a column of currencies by its header, and by its cells where the header may mean something else."""
    rest = words - ASIDE
    cells = take(rows, index)
    others = [other for other in identity if other != index]
    if not cells or sum(is_number(cell) for cell in cells) * 2 > len(cells):
        return False
    paired = words & {"pair", "pairs", "market", "instrument", "product", "ticker"} and index not in identity
    if paired and sum(bool(split_pair(cell)) for cell in cells) * 2 > len(cells):
        return True
    if rest & TARGETS and rest & (QUOTED | {"fiat"}) and rest <= TARGETS | QUOTED | {"in", "of"}:
        return True
    if len(rest) == 1 and rest <= TARGETS - {"price"}:
        return "market" not in words and sum(bool(CODE.fullmatch(cell)) or is_dollar(cell) for cell in cells) * 2 > len(cells)
    if rest & PLAIN and rest <= PLAIN | {"price"}:
        return "price" in rest or differs(rows, index, others)
    return bool(others) and (index not in identity or "currency" in words) and is_fiat(cells)


def differs(rows: Sequence[Sequence[str]], index: int, identity: Sequence[int]) -> bool:
    """Tell currencies of prices from a column of assets beside other columns that name the asset."""
    cells = [cell.casefold() for cell in take(rows, index)]
    same = sum(
        any(len(row) > max(at, index) and row[at].strip().casefold() == row[index].strip().casefold() for at in identity) for row in rows
    )
    if not identity or same * 2 > len(cells):
        return False
    kinds = set(cells)
    return is_fiat(cells) or len(kinds) == 1 < len(cells) or (len(kinds) * 2 <= len(cells) and kinds <= QUOTES)


def is_fiat(cells: Sequence[str]) -> bool:
    """Tell cells most of which are currencies of states."""
    return sum(cell.casefold() in STATED for cell in cells) * 2 > len(cells)


def take(rows: Sequence[Sequence[str]], index: int) -> list[str]:
    """Give the cells of a column that say something."""
    return [row[index].strip() for row in rows if index < len(row) and not is_null(row[index])]


def find_base(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Find the column of a list of pairs that names the asset, -1 when there is none."""
    for index, cell in enumerate(header):
        words = frozenset(read_words(cell))
        cells = take(rows, index)
        if words & BASES and words <= BASES | QUOTED | ASIDE and cells and not any(is_number(cell) for cell in cells[:1]):
            return index
    return -1


def require_dollars(header: Sequence[str], rows: Sequence[Sequence[str]], currencies: Sequence[int]) -> None:
    """Refuse a file in which a column of currencies never names the US dollar. Raises SourceError."""
    for index in currencies:
        cells = [row[index] for row in rows if index < len(row)]
        if cells and not any(map(is_dollar, cells)):
            kinds = show(list(dict.fromkeys(cell.strip() for cell in cells)))
            message = f"has prices in {kinds}, not US dollars, says its column {one_line(header[index])[:40]}: export it in US dollars"
            raise SourceError(message, permanent=True)


def require_assets(header: Sequence[str], rows: Sequence[Sequence[str]], columns: Mapping[str, int], *, based: bool) -> None:
    """Refuse a table of exchange rates of currencies, and pairs whose quote cannot be told. Raises SourceError."""
    where = next((columns[name] for name in ("symbol", "name", "external_id") if name in columns), -1)
    cells = take(rows, where) if where >= 0 else []
    if sum(cell.casefold() in FIATS for cell in cells) * 2 > len(cells):
        raise SourceError(f"is a table of currencies ({show(cells)}), not of crypto assets: name a file with assets", permanent=True)
    bases = [found[1] for cell in cells if (found := GLUED.fullmatch(cell.upper()))]
    listed = any({"quote", "volume"} <= set(read_words(cell)) for cell in header)
    certain = len(cells) >= 5 and len(bases) * 5 > len(cells) * 4 and not MAJORS.isdisjoint(bases)
    if not based and (certain or (listed and len(bases) * 2 > len(cells))):
        raise SourceError(f"lists pairs ({show(cells)}) without saying which is the quote: add columns base and quote", permanent=True)
