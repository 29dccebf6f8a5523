"""The registry: one line a source, in the order in which `--source all` runs them."""

from __future__ import annotations

from etl.source import Source
from etl.sources import coingecko, coinpaprika, csv_files, rss

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        coinpaprika.SOURCE,
        coingecko.SOURCE,
        csv_files.SOURCE,
        rss.SOURCE,
    )
}
