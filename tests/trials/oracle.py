"""What must hold after any sequence of faults and resumes: the served tables equal those of a clean run, and the books balance."""

from __future__ import annotations

from typing import Any

from shared.db import connect

SERVED = """
select source, external_id, kind, symbol, name, category, price_usd::text, market_cap_usd::text, volume_24h_usd::text,
       percent_change_24h::text, rank, url, tags, source_updated_at, status, encode(r.sha256, 'hex'), raw_position
from unified_data u join (select id as raw, sha256 from raw_payloads) r on r.raw = u.raw_id order by 1, 2
"""
TABLES = {
    "served": SERVED,
    "prices": "select source, external_id, observed_at, price_usd::text, market_cap_usd::text from price_history order by 1, 2, 3",
    "quarantined": "select source, record, errors::text, raw_position from quarantined_records order by 1, 2",
    "raw": "select source, encode(sha256, 'hex') from raw_payloads order by 1, 2",
}
INVARIANTS = {
    "I2 raw bytes are their digest": "select count(*) from raw_payloads where sha256(body) <> sha256",
    "I3 counters are the rows": """
        select count(*) from (select source from etl_runs group by source
        having sum(records_inserted) <> (select count(*) from unified_data u where u.source = etl_runs.source)) off""",
    "I3 runs are their batches": """
        select count(*) from etl_runs r where records_extracted <>
        (select coalesce(sum(next_position - first_position), 0) from etl_batches b where b.run_id = r.id)""",
    "I4 batches are the sequence": """
        select count(*) from etl_checkpoints c where seq <> (select count(*) from etl_batches b where b.source = c.source)""",
    "I4 batches follow each other": """
        select count(*) from (select first_position, raw_id, lag(next_position) over w as before, lag(raw_id) over w as raw_before
        from etl_batches join etl_runs r on r.id = run_id and r.trigger <> 'replay'
        window w as (partition by etl_batches.source order by seq)) b
        where first_position <> case when raw_id = raw_before then before else 0 end and first_position <> 0""",
    "I5 no run is left running": "select count(*) from etl_runs where status = 'running'",
    "I5 no lease is left": "select count(*) from etl_checkpoints where lease_expires_at is not null",
    "I5 the position is at an end": "select count(*) from etl_checkpoints where position ? 'pending'",
}


def picture(dsn: str) -> dict[str, Any]:
    """The tables as far as they must not depend on what happened on the way."""
    with connect(dsn, "oracle") as conn:
        return {name: [tuple(row.values()) for row in conn.execute(query.encode()).fetchall()] for name, query in TABLES.items()}


def violations(dsn: str, clean: dict[str, Any]) -> list[str]:
    """What does not hold."""
    found = [f"I6 {name} differs from a clean run" for name, rows in picture(dsn).items() if rows != clean[name]]
    with connect(dsn, "oracle") as conn:
        for name, query in INVARIANTS.items():
            row = conn.execute(query.encode()).fetchone()
            found += [name] if row and row["count"] else []
    return found
