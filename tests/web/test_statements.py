"""Records as JSON text, put together member by member: the bytes that Postgres itself would make of the row."""

from __future__ import annotations

import json
from itertools import chain

import psycopg
from psycopg import sql

from shared.db import Connection
from tests.web.boards import HOSTILE
from web.statements import COLUMNS, record

FULL = """
insert into unified_data (source, source_type, external_id, kind, asset_id, symbol, name, category, price_usd, market_cap_usd,
                          volume_24h_usd, percent_change_24h, rank, url, tags, source_updated_at, status, raw_id, raw_position, run_id)
values (%(text)s, %(text)s, %(id)s, 'asset', %(text)s, %(text)s, %(text)s, %(text)s, 0.10, 1e40, 1e-60, -12.50, 7, %(text)s,
        array[%(text)s, '', null], '2026-01-31 12:00:00.123456+02', 'inactive', 1, 1, 1)
"""
BARE = """
insert into unified_data (source, source_type, external_id, kind, name, category, raw_id, raw_position, run_id)
values ('csv', 'csv', %(id)s, 'article', '', '', 1, 1, 1)
"""


def test_a_record_is_what_row_to_json_makes_of_it(conn: Connection) -> None:
    texts = [
        *(name.replace("\0", "") for name in HOSTILE.values()),
        "".join(map(chr, range(1, 33))),
        '"\\/\x7f\u2028',
        "e\u0301 \U0001f600",
    ]
    for number, text in enumerate(texts):
        conn.execute(FULL, {"id": f"full {number} {text[:300]}", "text": text[:2000]})
        conn.execute(BARE, {"id": f"bare {number}"})
    for columns in (COLUMNS, COLUMNS[::-1], *([name] for name in COLUMNS)):
        whole = sql.SQL("select {}, row_to_json(d)::text from unified_data u cross join lateral (select {}) d order by u.id").format(
            record(columns), sql.SQL(", ").join(sql.Identifier("u", name) for name in columns)
        )
        with psycopg.ClientCursor(conn, row_factory=psycopg.rows.tuple_row) as cursor:
            found = cursor.execute(whole).fetchall()
        assert [mine for mine, _ in found] == [theirs for _, theirs in found]
        assert len(found) == 2 * len(texts)
    assert set(chain.from_iterable(json.loads(mine) for mine, _ in found)) == {COLUMNS[-1]}
