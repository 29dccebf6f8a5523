"""What the peers that store record by record share: reading the records, and the statement of an upsert by id."""

from __future__ import annotations

import csv
import json
import urllib.request
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

COLUMNS = ("id", "symbol", "name", "price", "market_cap", "volume_24h", "percent_change_24h", "rank", "last_updated", "category")
BATCH = 1000
"""Records a transaction of those that store many at once."""


def read(place: str) -> list[dict[str, Any]]:
    """The records of a list of tickers at an address, or of a CSV file, as the types of the table."""
    if place.startswith("http"):
        with urllib.request.urlopen(place) as response:
            return [from_ticker(each) for each in json.loads(response.read(), parse_float=Decimal)]
    with Path(place).open(newline="") as file:
        return [from_row(each) for each in csv.DictReader(file)]


def from_ticker(ticker: dict[str, Any]) -> dict[str, Any]:
    """A ticker of the list."""
    usd, stamp = ticker["quotes"]["USD"], datetime.fromisoformat(ticker["last_updated"])
    figures = Decimal(usd["price"]), Decimal(usd["market_cap"]), Decimal(usd["volume_24h"]), str(usd["percent_change_24h"])
    values = ticker["id"], ticker["symbol"], ticker["name"], *figures, ticker["rank"], stamp, "cryptocurrency"
    return dict(zip(COLUMNS, values, strict=True))


def from_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the file."""
    figures = {name: Decimal(row[name]) for name in ("price", "market_cap", "volume_24h")}
    return row | figures | {"rank": int(row["rank"]), "last_updated": datetime.fromisoformat(row["last_updated"])}
