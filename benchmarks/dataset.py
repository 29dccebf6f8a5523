"""The rows that are read: made in Postgres from a seed, through the triggers that keep counts and versions."""

from __future__ import annotations

from etl.indexes import make_read_indexes
from etl.stop import Stop
from shared.db import connect

CHUNK = 100_000
WORDS = [
    *("Amber", "Basin", "Cedar", "Delta", "Ember", "Fable", "Grove", "Haven", "Indigo", "Jasper", "Karma", "Lumen", "Maple", "Noble"),
    *("Ocean", "Prism", "Quartz", "Raven", "Solar", "Tidal", "Ultra", "Vivid", "Wolf", "Xenon", "Yonder", "Zephyr", "Atlas", "Breeze"),
    *("Cobalt", "Drift", "Echo", "Falcon"),
]
ROWS = """
insert into unified_data (source, source_type, external_id, kind, symbol, name, category, price_usd, market_cap_usd, volume_24h_usd,
    percent_change_24h, rank, url, tags, source_updated_at, first_seen_at, updated_at, status, raw_id, raw_position, run_id)
select (array['coinpaprika', 'coingecko', 'csv', 'rss'])[s], (array['api', 'api', 'csv', 'rss'])[s], 'record-' || n,
    case s when 4 then 'article' else 'asset' end, case when s < 4 then 'C' || n / 4 end,
    w[1 + n / 7 % 32] || ' ' || w[1 + n * 13 / 5 % 32] || ' ' || n, (array['defi', 'layer-1', 'meme', 'stablecoin', 'exchange'])[c],
    case when s < 4 then round((10 ^ (r * 9 - 4))::numeric, 10) end, case when s < 3 then round((10 ^ (q * 9 + 2))::numeric, 2) end,
    case when s < 4 then round((q * 1e9)::numeric, 2) end, case when s < 4 then round((r * 20 - 10)::numeric, 4) end,
    case when s < 3 then n + 1 end, 'https://example.org/record/' || n, case when c = 1 then array['top', 'listed'] end,
    '2026-03-01'::timestamptz + n * interval '1 second', '2026-03-02'::timestamptz + n * interval '1 second',
    '2026-03-02'::timestamptz + n * interval '1 second', case when r < 0.01 then 'inactive' else 'active' end, 1, n, 1
from (select n::bigint, random() as r, random() as q, 1 + floor(random() * 5)::int as c,
             case when random() < 0.4 then 1 when random() < 0.6 then 2 when random() < 0.5 then 3 else 4 end as s
      from generate_series({first}, {last}) n order by n) dice, (select array{words} as w) vocabulary
"""
RUNS = """
insert into etl_runs (source, trigger, status, requested_at, started_at, finished_at, records_extracted, records_inserted, batches)
select (array['coinpaprika', 'coingecko', 'csv', 'rss'])[1 + n % 4], 'cron', case when n % 50 = 0 then 'failed' else 'success' end,
    at, at, at + n % 90 * interval '1 second', n % 2500, n % 2500, 1
from generate_series({first}, {last}) n, lateral (select now() - ({last} - n) * interval '1 minute' as at) clock
"""


def fill(dsn: str, rows: int, runs: int, first: int = 0) -> None:
    """Make the records from the `first` up to so many, a CHUNK a transaction, and the runs."""
    with connect(dsn, "benchmark") as conn:
        conn.execute("select setseed(0.42)")
        for start in range(first, rows, CHUNK):
            conn.execute(ROWS.format(first=start, last=min(start + CHUNK, rows) - 1, words=WORDS).encode())
            conn.commit()
        conn.execute(RUNS.format(first=1, last=runs).encode())
        conn.commit()
        conn.autocommit = True
        make_read_indexes(conn, Stop())
        conn.execute("vacuum (analyze)")
