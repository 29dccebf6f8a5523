"""Real files: every one that holds assets loads, every other one is refused for the right reason."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from etl.errors import SourceError
from etl.source import Row
from etl.sources.csv_files import SOURCE
from etl.validate import validate
from shared.settings import Settings

ASSETS = {
    "cmc_api_2063_2018-10-11_scrambled_columns.csv": ("symbol", "name", "price_usd"),
    "cmc_scrape_1100_2021-08.csv": ("name_abr", "name", "price_value"),
    "cmc_top20_2022-10-10.csv": ("ticker_symbol", "coin_name", "price"),
    "coingecko_kaggle_500_2022-03-16.csv": ("symbol", "coin", "price"),
    "coingecko_markets_100_2021-07.csv": ("symbol", "name", "current_price"),
}
OTHERS = {
    "cmc_btc_ohlcv_2013-2018_bom_crlf.csv": "is a price history that names no asset",
    "cmc_names_prices_noheader_2021-02.csv": "has no header in its first 20 lines",
    "crypto_wide_2017_bom_ragged.csv": "has a column for each asset (BTC, ETH, XRP, BCH, LTC",
    "investing_btc_2010-2020_bom.csv": "is a price history that names no asset",
}


def load(path: Path) -> list[Row]:
    """The rows of a file, in order; at most one record in a hundred may be refused."""
    rows: list[Row] = []
    refused = 0
    for payload in SOURCE.extract(Settings(csv_paths=(str(path),)), None, {}):  # type: ignore[arg-type]
        found = validate(SOURCE, list(SOURCE.parse(payload)), 0)
        rows += [row for _, row in found.accepted]
        refused += len(found.rejected)
    assert refused * 100 <= len(rows)
    return rows


def plain(text: object) -> Decimal | None:
    """A price for comparison."""
    return Decimal(str(text)) if text else None


@pytest.mark.parametrize("name", ASSETS)
def test_a_file_of_assets_loads(corpus: Path, name: str) -> None:
    path = corpus / "csv" / "crypto" / name
    with path.open(encoding="utf-8-sig", newline="") as file:
        wanted = [[row[column].strip() for column in ASSETS[name]] for row in csv.DictReader(file, skipinitialspace=True)]
    found = [[row.symbol, row.name, plain(row.price_usd)] for row in load(path)]
    assert len(found) >= 0.99 * len(wanted)
    wanted = [[s.upper() if s.islower() else s, " ".join(n.split()), plain(p.replace("$", "").replace(",", ""))] for s, n, p in wanted]
    assert [row for row in found if row not in wanted] == []


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_something_else_is_refused(corpus: Path, name: str) -> None:
    with pytest.raises(SourceError) as caught:
        load(corpus / "csv" / "crypto" / name)
    assert OTHERS[name] in str(caught.value)


@pytest.mark.parametrize("folder", ["csv-spectrum", "csv-test-data", "frictionless"])
def test_files_of_other_trades_are_refused_in_one_line(corpus: Path, folder: str) -> None:
    paths = sorted((corpus / "csv" / folder).rglob("*.?sv"))
    assert len(paths) > 10
    for path in paths:
        with pytest.raises(SourceError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
