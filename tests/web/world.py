"""Rows for tests of the API: runs of any shape, written straight into the tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.db import Connection


def now() -> datetime:
    """This second; asked anew each time, for a session of tests lasts minutes."""
    return datetime.now(UTC).replace(microsecond=0)


def add_run(conn: Connection, source: str = "csv", status: str = "success", **facts: Any) -> int:
    """Write one run and return its id. Facts: `trigger`, `ago` (seconds since its end), `took` (seconds), counters, `error_message`."""
    ended = now() - timedelta(seconds=facts.pop("ago", 60))
    started = ended - timedelta(seconds=facts.pop("took", 5))
    row: dict[str, Any] = {"source": source, "trigger": facts.pop("trigger", "cli"), "status": status, "started_at": started}
    row |= {} if status in ("running", "queued") else {"finished_at": ended}
    row |= facts
    counted = ("records_inserted", "records_updated", "records_unchanged", "records_quarantined")
    row["records_extracted"] = sum(row.get(name, 0) for name in counted)
    columns, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    found = conn.execute(f"insert into etl_runs ({columns}) values ({values}) returning id".encode(), row).fetchone()
    return int(found["id"]) if found else 0


def add_quarantined(conn: Connection, run_id: int, source: str = "csv", record: bytes = b"x", resolved: bool = False) -> int:
    """Write one quarantined record and return its id."""
    found = conn.execute(
        """insert into quarantined_records (source, run_id, raw_id, raw_position, record, fingerprint, errors, resolved_at)
        values (%s, %s, 1, 0, %b, sha256(%b), '[{"field": "price", "reason": "is no number"}]', case when %s then now() end)
        returning id""",
        [source, run_id, record, record + source.encode(), resolved],
    ).fetchone()
    return int(found["id"]) if found else 0


def add_drift(conn: Connection, run_id: int, field: str, source: str = "csv", change: str = "added", seen: datetime | None = None) -> int:
    """Write one change and return its id."""
    seen = seen or now()
    found = conn.execute(
        """insert into schema_drift (source, field, change, sample, confidence, first_seen_at, last_seen_at, run_id)
        values (%s, %s, %s, '1', 0.5, %s, %s, %s) returning id""",
        [source, field, change, seen, seen, run_id],
    ).fetchone()
    return int(found["id"]) if found else 0
