"""Whether a field that appeared is one that went missing: names, kinds of values and the values themselves have a say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from statistics import correlation, median, quantiles

from etl.drift.profile import Field

ENOUGH = 8
"""Records known by id from which on a field is compared with itself."""
CLOSE = 0.05
"""Decades that a value may move between two runs and still count as the same."""
SHIFT = 0.3
"""Decades from which on a shift common to known records is another magnitude: a factor of two."""
APART = 1.0
"""The same for medians of records that are not known by id: a factor of ten."""
MOST_SHIFTED = 0.7
"""The confidence that a rename of another magnitude has at the most."""

WORDS = {
    "mcap": "market cap", "mktcap": "market cap", "marketcap": "market cap", "capitalization": "cap", "capitalisation": "cap",
    "mkt": "market", "vol": "volume", "turnover": "volume", "traded": "volume", "pct": "percent", "percentage": "percent",
    "perc": "percent", "chg": "change", "delta": "change", "px": "price", "prc": "price", "rate": "price", "close": "price",
    "sym": "symbol", "ticker": "symbol", "code": "symbol", "ts": "time", "timestamp": "time", "date": "time", "datetime": "time",
    "updated": "updated", "modified": "updated", "refreshed": "updated", "title": "name", "label": "name", "identifier": "id",
    "slug": "id", "key": "id", "uid": "id", "position": "rank", "ranking": "rank", "img": "image", "logo": "image", "icon": "image",
    "picture": "image", "fdv": "fully diluted valuation", "circ": "circulating", "tot": "total", "maximum": "max", "minimum": "min",
    "day": "24h", "daily": "24h", "qty": "supply", "quote": "quotes", "val": "value", "max24h": "high 24h", "min24h": "low 24h",
    "alltimehigh": "ath", "alltimelow": "atl",
}  # fmt: skip
"""Words of the field's usual vocabulary, folded into one."""
FILLER = frozenset(
    {"usd", "current", "last", "latest", "at", "the", "value", "in", "of", "coin", "asset", "data", "on", "is", "url", "full"}
)
QUALIFIERS = frozenset(
    {"high", "low", "max", "min", "total", "circulating", "ath", "atl", "change", "percent", "rank", "time", "id", "count", "open",
     "average", "btc", "eth", "eur", "gbp", "1h", "6h", "12h", "15m", "30m", "24h", "7d", "14d", "30d", "200d", "1y", "cap", "supply",
     "volume", "price", "name", "symbol", "fully", "diluted", "valuation", "beta", "first", "image", "roi", "quotes", "reserve"}
)  # fmt: skip
"""Words that tell two fields apart."""
OTHERS = frozenset(
    {"btc", "eth", "eur", "gbp", "jpy", "cny", "open", "average", "avg", "mean", "median", "vwap", "first", "fully", "diluted", "high",
     "low", "max", "min", "ath", "atl", "change", "percent", "ratio", "rank", "predicted", "previous", "prev"}
)  # fmt: skip
PERIOD = re.compile(r"(?!24h)\d+[hdmyw]")
"""Words that make it another figure, however close the values are: the price in euro, the mean of a week."""
DOUBTED = 0.55
"""The confidence that such a pair has at the most: it is not suggested."""


@dataclass(frozen=True, slots=True)
class Match:
    """How likely one field is another: confidence from 0 to 1, and the factor between their magnitudes when those differ."""

    confidence: float
    factor: float | None = None


def fold(name: str) -> list[str]:
    """A field's own name as folded words: `marketCap`, `market_cap` and `mcap` say the same."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    text = re.sub(r"[^0-9a-z%$#]+", " ", text.lower()).replace("%", " percent ").replace("$", " usd ").replace("#", " rank ")
    text = re.sub(r"(?<![a-z0-9])(\d+) (h|d|m|y)(?![a-z])", r"\1\2", text)
    text = re.sub(r"\b1d\b|\b24hr?s?\b", "24h", text)
    text = re.sub(r"(?<=[a-z])(?=24h\b|7d\b|1h\b|30d\b|1y\b)", " ", text)
    return " ".join(WORDS.get(word, word) for word in text.split()).split()


def compare_names(old: str, new: str) -> float:
    """How alike two names are; words that tell fields apart weigh, words that say nothing do not."""
    left, right = fold(old.rpartition(".")[2]), fold(new.rpartition(".")[2])
    bare_left, bare_right = [[word for word in words if word not in FILLER] or words for words in (left, right)]
    if sorted(bare_left) == sorted(bare_right):
        return 1.0 if sorted(left) == sorted(right) else 0.97
    alike: float = import_module("rapidfuzz.fuzz").token_sort_ratio(" ".join(bare_left), " ".join(bare_right)) / 100
    joined = likeness("".join(bare_left), "".join(bare_right))
    score = max(alike, joined - 0.1, 0.8 if abbreviates("".join(bare_left), "".join(bare_right)) else 0.0)
    between = set(bare_left) ^ set(bare_right)
    if between & QUALIFIERS and not all(any(is_typo(word, other) for other in between - {word}) for word in between & QUALIFIERS):
        return score * 0.5
    return score


def is_another(old: str, new: str) -> bool:
    """Whether one name has a word that makes it another figure, and the other has no word it could be short for."""
    left, right = set(fold(old.rpartition(".")[2])), set(fold(new.rpartition(".")[2]))
    for mine, theirs in ((left - right, right - left), (right - left, left - right)):
        if any((word in OTHERS or PERIOD.fullmatch(word)) and not any(is_typo(word, other) for other in theirs) for word in mine):
            return True
    return False


def is_typo(word: str, other: str) -> bool:
    """Whether a word is another one, cut or mistyped."""
    return other not in QUALIFIERS and len(other) > 1 and (abbreviates(word, other) or likeness(word, other) >= 0.88)


def likeness(one: str, other: str) -> float:
    """How alike two words are, by Jaro and Winkler. The library is imported with the first pair: most runs see no new name."""
    found: float = import_module("rapidfuzz.distance").JaroWinkler.similarity(one, other)
    return found


def abbreviates(one: str, other: str) -> bool:
    """Whether the shorter is the longer with letters left out: it begins alike and keeps their order."""
    short, long = sorted((one, other), key=len)
    letters = iter(long)
    return 2 <= len(short) < len(long) and short[0] == long[0] and all(letter in letters for letter in short)


def score(old_name: str, old: Field, new_name: str, new: Field, rivals: Iterable[Field] = ()) -> Match:
    """Rate a field that appeared as the one that went missing.

    `rivals` are fields that stayed: where one of them agrees with the new values as well, the values prove little.
    """
    name = compare_names(old_name, new_name)
    if not old.filled:
        return Match(round(0.85 * name, 2) if name >= 0.8 else 0.0)
    kinds = sum(min(old.share(kind), new.share(kind)) for kind in old.kinds)
    factor = shift_of(old, new)
    value = agreement(old, new, factor or 0.0)
    if value > 0.5 and any(agreement(rival, new, 0.0) >= value for rival in rivals):
        value = max(0.5, value / 2)
    confidence = (0.55 * name + 0.45 * value) * (0.4 + 0.6 * kinds)
    if is_another(old_name, new_name):
        return Match(round(min(confidence, DOUBTED), 2))
    if factor is not None:
        return Match(round(min(confidence, MOST_SHIFTED), 2), float(f"{10**factor:.3g}"))
    return Match(round(confidence, 2))


def shifts(old: Field, new: Field) -> list[float]:
    """By how many decades the numbers of known records moved."""
    both = old.anchors.keys() & new.anchors.keys()
    pairs = ((old.anchors[key], new.anchors[key]) for key in sorted(both))
    return [after - before for before, after in pairs if isinstance(before, float | int) and isinstance(after, float | int)]


def are_enough(known: int, new: Field) -> bool:
    """Whether so many known records can stand for a field: they are many, or half of the few there are."""
    return known >= ENOUGH or 0 < new.filled <= min(2 * known, ENOUGH)


def spread(values: list[float]) -> float:
    """The width of the middle half."""
    low, _, high = quantiles(values, n=4)
    return high - low


def shift_of(old: Field, new: Field) -> float | None:
    """By how many decades one field's numbers are another's, None when their magnitudes agree or are no numbers."""
    moved = shifts(old, new)
    if len(moved) >= ENOUGH or (moved and new.filled < ENOUGH):
        middle = median(moved)
        return middle if abs(middle) >= SHIFT else None
    before, after = middle_of(old), middle_of(new)
    if before is None or after is None:
        return None
    return after - before if abs(after - before) >= APART else None


def middle_of(found: Field) -> float | None:
    """The median magnitude of a field's numbers in decades, None without numbers."""
    return at_share(found, 0.5)


def at_share(found: Field, share: float) -> float | None:
    """The magnitude below which a share of a field's numbers lies."""
    bins = sorted((int(size), count) for size, count in found.sizes.items())
    total, seen = sum(count for _, count in bins), 0.0
    for size, count in bins:
        seen += count
        if seen >= total * share:
            return size / 4
    return None


def agreement(old: Field, new: Field, factor: float) -> float:
    """How well the values of two fields agree once a common shift is taken out: by id where records are known, else by distribution."""
    known = agreement_by_id(old, new, factor)
    if known is not None:
        return known
    return max(0.0, 1 - distance(old.sizes, new.sizes, factor) - difference(old, new))


def agreement_by_id(old: Field, new: Field, factor: float) -> float | None:
    """The same for known records, None when there are too few."""
    moved = shifts(old, new)
    both = sorted(old.anchors.keys() & new.anchors.keys())
    if not are_enough(len(both), new) or old.share("time") > 0.5 or new.share("time") > 0.5:
        return None
    if len(moved) < len(both) / 2:
        return sum(old.anchors[key] == new.anchors[key] for key in both) / len(both)
    close = sum(abs(value - factor) <= CLOSE for value in moved) / len(moved)
    pairs = [(old.anchors[key], new.anchors[key]) for key in both]
    numbers = [(float(a), float(b)) for a, b in pairs if isinstance(a, float | int) and isinstance(b, float | int)]
    left, right = [a for a, _ in numbers], [b for _, b in numbers]
    if len(numbers) < ENOUGH or len(set(left)) < 2 or len(set(right)) < 2:
        return close
    return max(close, 0.9 * max(0.0, (correlation(left, right) - 0.8) / 0.2))


def distance(old: Mapping[str, float], new: Mapping[str, float], factor: float) -> float:
    """How far two distributions of magnitudes lie apart, in parts of a decade and a half."""
    if not old or not new:
        return 0.0
    one, other = Field(sizes=old), Field(sizes=new)
    gaps = [abs((at_share(other, share) or 0) - (at_share(one, share) or 0) - factor) for share in (0.1, 0.25, 0.5, 0.75, 0.9)]
    return min(1.0, sum(gaps) / len(gaps) / 1.5)


def looked_at(found: Field) -> float:
    """How many values the marks speak for: of a number one of three is set for each, of a text one length."""
    return sum(count for name, count in found.marks.items() if name in ("zero", "negative", "positive") or name.startswith("length "))


def difference(old: Field, new: Field) -> float:
    """How much the marks of shape differ, at most 0.6."""
    names = old.marks.keys() | new.marks.keys()
    if not names:
        return 0.4  # nothing but the kind is known, as of times
    before, after = max(looked_at(old), 1), max(looked_at(new), 1)
    gaps = [abs(old.marks.get(name, 0) / before - new.marks.get(name, 0) / after) for name in names]
    return min(0.6, sum(gaps) / max(1.0, sum(max(old.marks.get(n, 0) / before, new.marks.get(n, 0) / after) for n in names)))
