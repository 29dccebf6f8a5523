"""A labelled set of drifts over real rows: how many are found, and how many renames are suggested rightly.

    python -m tests.etl.drift.labelled [CORPUS]

A recorded payload is yesterday's; today's has moved as a market does, and then one thing was changed, which is the label.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl.drift.detect import Findings, compare
from etl.drift.profile import PEEK, Profile, survey
from etl.drift.watch import identified, model_roles
from etl.errors import Unrecognised
from etl.json_array import decoder
from etl.source import Payload
from etl.sources import SOURCES
from etl.sources.csv_files.dialect import sniff

Rows = list[dict[str, Any]]
MOST = 400
"""Rows of a payload that are taken: enough, and quick."""
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
FILES = {
    "paprika 2019": ("coinpaprika", "coinpaprika/tickers_usd_2019-09-06.subset.json"),
    "gecko 2021": ("coingecko", "coingecko/markets_usd_100_2021-06-24.json"),
    "gecko 2022": ("coingecko", "coingecko/markets_usd_250_2022-08-30.json"),
    "gecko 2025": ("coingecko", "coingecko/markets_usd_100_2025-02-16.json"),
    "csv cmc 2018": ("csv", "csv/crypto/cmc_api_2063_2018-10-11_scrambled_columns.csv"),
    "csv gecko 2021": ("csv", "csv/crypto/coingecko_markets_100_2021-07.csv"),
    "csv kaggle 2022": ("csv", "csv/crypto/coingecko_kaggle_500_2022-03-16.csv"),
}
USD = "quotes.USD."
RENAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "coinpaprika": {
        "id": ("coin_id", "identifier", "ID"),
        "name": ("coin_name", "full_name", "Name"),
        "symbol": ("ticker", "sym", "Symbol"),
        "rank": ("market_cap_rank", "ranking", "rank_position"),
        "last_updated": ("updated_at", "lastUpdated", "last_updated_at"),
        "quotes": ("quote", "market_data"),
        f"{USD}price": ("usd_price", "price_usd", "current_price", "px", "priceUsd"),
        f"{USD}volume_24h": ("turnover_24h", "volume24h", "vol_24h", "total_volume_24h"),
        f"{USD}market_cap": ("mcap", "marketCap", "market_capitalization", "mkt_cap_usd"),
        f"{USD}percent_change_24h": ("pct_change_24h", "percentChange24h", "change_percentage_24h", "percent_change_1d"),
        "max_supply": ("supply_max", "maxSupply", "maximum_supply"),
        "total_supply": ("supply_total", "totalSupply"),
        f"{USD}ath_price": ("athPrice", "price_ath"),
        "beta_value": ("beta", "betaValue"),
    },
    "coingecko": {
        "id": ("coin_id", "slug"),
        "name": ("coin_name", "title"),
        "symbol": ("ticker", "symbol_code"),
        "current_price": ("price", "price_usd", "currentPrice", "last_price"),
        "market_cap": ("mcap", "marketCap", "market_capitalisation"),
        "total_volume": ("volume", "total_turnover", "volume_usd", "totalVolume"),
        "price_change_percentage_24h": ("price_change_pct_24h", "percent_change_price_24h", "priceChangePercentage24h"),
        "market_cap_rank": ("mcap_rank", "marketCapRank", "rank_market_cap"),
        "last_updated": ("updated_at", "lastUpdated"),
        "high_24h": ("high24h", "daily_high"),
        "circulating_supply": ("circ_supply", "supply_circulating"),
        "ath_date": ("date_ath", "athDate"),
        "image": ("logo", "image_url"),
    },
    "csv cmc 2018": {
        "price_usd": ("usd_price", "Price", "priceUSD"),
        "market_cap_usd": ("mcap_usd", "Market Cap", "capitalization_usd"),
        "24h_volume_usd": ("volume_24h_usd", "vol24h", "turnover_24h"),
        "symbol": ("ticker", "Symbol"),
        "name": ("coin_name", "Name"),
        "last_updated": ("updated_at", "lastUpdated"),
        "rank": ("ranking", "Rank"),
        "percent_change_24h": ("pct_change_24h", "Change 24h %"),
        "available_supply": ("avail_supply", "supply_available"),
    },
    "csv gecko 2021": {
        "current_price": ("price", "price_usd", "currentPrice"),
        "market_cap": ("mcap", "MarketCap"),
        "total_volume": ("volume", "turnover"),
        "symbol": ("ticker", "sym"),
        "last_updated": ("updated", "updated_at"),
    },
    "csv kaggle 2022": {
        "price": ("usd_price", "px", "Price (USD)"),
        "mkt_cap": ("market_cap", "marketCap"),
        "symbol": ("ticker", "Symbol"),
        "coin": ("coin_name", "name"),
    },
}
Make = Callable[[Any, random.Random], Any]
HARD: dict[str, tuple[tuple[str, str, Make], ...]] = {
    "coinpaprika": (
        (f"{USD}price", "price_eur", lambda value, _: value * 0.92),
        (f"{USD}price", "price_btc", lambda value, _: value / 61_000),
        (f"{USD}price", "average_price_7d", lambda value, dice: value * dice.uniform(0.97, 1.03)),
        (f"{USD}market_cap", "fully_diluted_market_cap", lambda value, dice: value * dice.uniform(1, 1.1)),
        (f"{USD}volume_24h", "volume_7d", lambda value, dice: value * dice.uniform(5, 9)),
        (f"{USD}percent_change_24h", "percent_change_3d", lambda value, dice: value * dice.uniform(-2, 3)),
        ("rank", "trending_score", lambda value, dice: dice.randrange(100)),
        ("last_updated", "first_trade_at", lambda value, dice: f"2015-01-{dice.randrange(10, 28)}T00:00:00Z"),
        ("max_supply", "locked_supply", lambda value, dice: value * dice.uniform(0, 0.4)),
        ("symbol", "currency", lambda value, _: "USD"),
    ),
    "coingecko": (
        ("current_price", "vwap_24h", lambda value, dice: value * dice.uniform(0.99, 1.01)),
        ("current_price", "price_eur", lambda value, _: value * 0.92),
        ("current_price", "previous_price", lambda value, dice: value * dice.uniform(0.97, 1.03)),
        ("market_cap", "market_cap_btc", lambda value, _: value / 61_000),
        ("total_volume", "volume_7d", lambda value, dice: value * dice.uniform(5, 9)),
        ("total_volume", "spot_volume_share", lambda value, dice: dice.random()),
        ("price_change_percentage_24h", "price_change_percentage_7d", lambda value, dice: value * dice.uniform(-2, 3)),
        ("market_cap_rank", "volume_rank", lambda value, dice: dice.randrange(1, 250)),
        ("name", "description", lambda value, _: f"{value} is a cryptocurrency launched by its community some years ago"),
        ("image", "homepage", lambda value, dice: f"https://{dice.randrange(9999)}.example"),
    ),
}
"""Fields that took another's place and are close to it, but are not it."""
MOVING = ("price", "cap", "volume", "high", "low", "change", "percent", "beta", "1h", "24h", "7d")


@dataclass(frozen=True)
class Case:
    """One drift: the rows it leads to, and the label: fields that changed, the true renames, whether magnitude changed with one."""

    dataset: str
    kind: str
    name: str
    rows: Rows
    fields: frozenset[str]
    renames: dict[str, str] = field(default_factory=dict)
    scaled: bool = False
    added: frozenset[str] = frozenset()


def load(corpus: Path, name: str) -> Rows:
    kind, file = FILES[name]
    text = (corpus / file).read_text(encoding="utf-8-sig")
    rows: Rows = list(csv.DictReader(io.StringIO(text))) if kind == "csv" else json.loads(text)
    return rows[:MOST]


def profile(kind: str, rows: Rows) -> tuple[Profile, dict[str, bool]]:
    """Profile rows as a run would."""
    source = SOURCES[kind]
    if kind != "csv":
        model = model_roles(source.record)
        return survey(identified(source, decoder.decode(json.dumps(rows))[:PEEK]), {name: name for name in model}), model
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows[:PEEK])
    model = dict.fromkeys(source.shape.required, True)
    body = lines.getvalue().encode()
    try:
        dialect = sniff(body, ended=True)
    except Unrecognised as refused:
        return survey(refused.records, {}), model
    meta = {"path": "a.csv", **asdict(dialect), "width": len(dialect.header)}
    payload = Payload(body, "a.csv", {}, datetime.now(UTC), meta)
    assert source.shape.fields
    assert source.shape.roles
    return survey(source.shape.fields(payload, rows), source.shape.roles(payload)), model


def tomorrow(rows: Rows, dice: random.Random) -> Rows:
    """The same market a day later: prices and volumes moved, three in a hundred records are gone, the order is another."""

    def moved(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: moved(inside, key) for key, inside in value.items()}
        if not any(word in name.lower() for word in MOVING) or isinstance(value, bool):
            return value
        told = isinstance(value, str)
        try:
            number = float(value)
        except (TypeError, ValueError):
            return value
        if "change" in name or "percent" in name:
            number *= dice.uniform(-2, 2)
        else:
            number *= 2.718281828 ** dice.gauss(0, 0.3 if "volume" in name else 0.03)
        return (repr(number) if told else number) if number != int(number) else (str(int(number)) if told else int(number))

    kept = [moved(row, "") for row in rows if dice.random() > 0.03]
    dice.shuffle(kept)
    return kept


def at(row: dict[str, Any], path: str, change: Callable[[dict[str, Any], str], None]) -> dict[str, Any]:
    """A copy of a row with something done to the field at a path."""
    copy: dict[str, Any] = json.loads(json.dumps(row))
    *above, name = path.split(".") if not any(path == key for key in row) else [path]
    inside = copy
    for part in above:
        inside = inside[part]
    change(inside, name)
    return copy


def each(rows: Rows, path: str, change: Callable[[dict[str, Any], str], None]) -> Rows:
    return [at(row, path, change) for row in rows]


def renaming(new: str, scale: float = 1.0) -> Callable[[dict[str, Any], str], None]:
    def change(row: dict[str, Any], name: str) -> None:
        items = [(new if key == name else key, scaled(value, scale) if key == name else value) for key, value in row.items()]
        row.clear()
        row.update(items)

    return change


def scaled(value: Any, scale: float) -> Any:
    if scale == 1.0 or value in (None, ""):
        return value
    return repr(float(value) * scale) if isinstance(value, str) else value * scale


def setting(make: Callable[[Any], Any]) -> Callable[[dict[str, Any], str], None]:
    def change(row: dict[str, Any], name: str) -> None:
        row[name] = make(row[name])

    return change


def beside(path: str, new: str) -> str:
    return f"{path.rpartition('.')[0]}.{new}".lstrip(".")


def cases(corpus: Path, seed: int = 7) -> Iterator[Case]:
    """All labelled drifts."""
    for dataset, (kind, _) in FILES.items():
        dice = random.Random(f"{seed} {dataset}")
        today = tomorrow(load(corpus, dataset), dice)
        table = RENAMES.get(kind) or RENAMES[dataset]
        yield Case(dataset, "none", "clean", today, frozenset())
        for path, names in table.items():
            for new in names:
                full = beside(path, new)
                rows = each(today, path, renaming(new))
                yield Case(dataset, "rename", f"{path} to {new}", rows, frozenset({path}), {path: full})
            yield Case(dataset, "removal", path, each(today, path, lambda row, name: row.pop(name) and None), frozenset({path}))
            yield from others(dataset, kind, path, today, dice)
        yield from whole(dataset, kind, table, today, dice)


def others(dataset: str, kind: str, path: str, today: Rows, dice: random.Random) -> Iterator[Case]:
    """What else can happen to one field: null flood, another type, another unit, a decoy."""
    if path == "quotes":
        return
    nothing: Any = "" if kind == "csv" else None
    yield Case(dataset, "null flood", path, each(today, path, setting(lambda _: nothing)), frozenset({path}))
    numeric = any(word in path for word in ("price", "cap", "volume", "supply")) and "rank" not in path and "change" not in path
    if kind != "csv":
        other = (lambda value: None if value is None else str(value)) if numeric else (lambda value: {"value": value})
        yield Case(dataset, "retype", path, each(today, path, setting(other)), frozenset({path}))
    if numeric:
        for factor in (100.0, 1000.0, 0.01):
            rows = each(today, path, setting(lambda value, by=factor: scaled(value, by)))  # type: ignore[misc]
            yield Case(dataset, "unit", f"{path} by {factor:g}", rows, frozenset({path}))
        new = f"{path.rpartition('.')[2]}_cents"
        rows = each(today, path, renaming(new, 100.0))
        yield Case(dataset, "unit and rename", f"{path} to {new}", rows, frozenset({path}), {path: beside(path, new)}, scaled=True)
    decoys: dict[str, Callable[[], Any]] = {
        "listing_fee": lambda: dice.uniform(5, 9),
        "is_listed": lambda: dice.random() < 0.5,
        "homepage": lambda: "https://a.example",
    }
    new, make = dice.choice(list(decoys.items()))

    def change(row: dict[str, Any], name: str) -> None:
        row.pop(name)
        row[new] = str(make()) if kind == "csv" else make()

    yield Case(dataset, "decoy", f"{path} beside {new}", each(today, path, change), frozenset({path}), added=frozenset({beside(path, new)}))


def whole(dataset: str, kind: str, table: dict[str, tuple[str, ...]], today: Rows, dice: random.Random) -> Iterator[Case]:
    """What happens to records as a whole: new fields, swapped fields, another order, hard decoys."""
    fresh: dict[str, Callable[[], Any]] = {
        "is_new": lambda: "true" if kind == "csv" else True,
        "liquidity_score": lambda: f"{dice.random():.4f}",
    }
    for new, make in fresh.items():
        yield Case(dataset, "addition", new, [{**row, new: make()} for row in today], frozenset(), added=frozenset({new}))
    yield Case(dataset, "reorder", "fields", [dict(reversed(row.items())) for row in today], frozenset())
    names = list(today[0])
    if {"symbol", "name"} <= set(names):
        rows = [{**row, "symbol": row["name"], "name": row["symbol"]} for row in today]
        yield Case(dataset, "swap", "symbol and name", rows, frozenset({"symbol", "name"}))
    supply = [name for name in ("max_supply", "total_supply") if name in names]
    if len(supply) == 2:
        rows = [
            {**{k: v for k, v in row.items() if k != "max_supply"}, "burned_supply": scaled(row["total_supply"], 0.02)} for row in today
        ]
        yield Case(dataset, "decoy", "burned supply", rows, frozenset({"max_supply"}), added=frozenset({"burned_supply"}))
    for old, new, other in HARD.get(kind, ()):
        told = [at(row, old, setting(lambda value, by=other: None if value is None else by(value, dice))) for row in today]  # type: ignore[misc]
        rows = each(told, old, renaming(new))
        yield Case(dataset, "hard decoy", f"{old} beside {new}", rows, frozenset({old}), added=frozenset({beside(old, new)}))
    if "high_24h" in names:
        rows = [{**{k: v for k, v in row.items() if k != "high_24h"}, "open_24h": row["current_price"]} for row in today]
        yield Case(dataset, "decoy", "open_24h", rows, frozenset({"high_24h"}), added=frozenset({"open_24h"}))


@dataclass
class Tally:
    """What came of the set."""

    cases: int = 0
    changed: int = 0
    found: int = 0
    required: int = 0
    required_found: int = 0
    false: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    renames: int = 0
    suggested: list[tuple[float, bool, str]] = field(default_factory=list)
    kinds: dict[str, list[int]] = field(default_factory=dict)


def judge(corpus: Path) -> Tally:
    """Run every case and count."""
    tally, bases = Tally(), dict[str, tuple[Profile, dict[str, bool]]]()
    for case in cases(corpus):
        kind = FILES[case.dataset][0]
        if case.dataset not in bases:
            bases[case.dataset] = profile(kind, load(corpus, case.dataset))
        base, model = bases[case.dataset]
        findings = compare(base, profile(kind, case.rows)[0], model)
        count(tally, case, findings, {name for name, role in base.roles.items() if model.get(role)})
    return tally


def count(tally: Tally, case: Case, findings: Findings, required: set[str]) -> None:
    """Hold what was found against the label."""
    name = f"{case.dataset}: {case.kind} {case.name}"
    told = {event.field for event in findings.events if event.change != "added"}
    for field_ in case.fields:
        hit = field_ in told
        row = tally.kinds.setdefault(case.kind, [0, 0])
        row[0], row[1] = row[0] + 1, row[1] + hit
        tally.changed, tally.found = tally.changed + 1, tally.found + hit
        if field_ in required:
            tally.required, tally.required_found = tally.required + 1, tally.required_found + hit
        tally.missed += [] if hit else [f"{name}: {field_}"]
    tally.cases += 1
    tally.false += [f"{name}: {event.field} {event.change} {event.suggested} {event.note}" for event in findings.events
                    if event.field not in case.fields | case.added | set(case.renames.values())]  # fmt: skip
    tally.renames += len(case.renames) if not case.scaled else 0
    for event in findings.events:
        if event.change == "renamed" and not (event.note and "magnitude" in event.note):
            right = case.renames.get(event.field) == event.suggested
            tally.suggested.append((event.confidence or 0.0, right and not case.scaled, f"{name}: {event.field} to {event.suggested}"))
            tally.silent += [name] if case.scaled else []


def table(tally: Tally) -> str:
    """What came of it, for people."""
    lines = [f"{tally.cases} drifts; {tally.found} of {tally.changed} changed fields found ({tally.found / tally.changed:.3f}), "
             f"{tally.required_found} of {tally.required} required ones, {len(tally.false)} false events",
             f"{'kind':<18}{'fields':>8}{'found':>8}"]  # fmt: skip
    lines += [f"{kind:<18}{total:>8}{found:>8}" for kind, (total, found) in sorted(tally.kinds.items())]
    lines.append(f"{'confidence':<18}{'suggested':>10}{'right':>8}{'precision':>11}{'recall':>8}")
    for level in LEVELS:
        chosen = [right for confidence, right, _ in tally.suggested if confidence >= level]
        precision = sum(chosen) / len(chosen) if chosen else 1.0
        lines.append(f">= {level:<15}{len(chosen):>10}{sum(chosen):>8}{precision:>11.3f}{sum(chosen) / tally.renames:>8.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    told = judge(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["KASPARRO_CORPUS"]))
    lines = [f"{title}: {line}" for title in ("false", "missed", "silent") for line in getattr(told, title)[:40]]
    lines += [f"wrong {confidence}: {line}" for confidence, right, line in told.suggested if not right]
    sys.stdout.write("\n".join([table(told), *lines]) + "\n")
