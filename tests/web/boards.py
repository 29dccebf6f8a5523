"""Databases for the pages: one function a state, each in terms of rows that the pipeline would have left."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from shared.db import Connection
from tests.web.world import add_quarantined, add_run, now

SOURCES = ("coinpaprika", "coingecko", "csv", "rss")
SCRIPT = "<script>alert(1)</script>"
HOSTILE = {
    "script": f'{SCRIPT}"><img src=x onerror=alert(1)>',
    "turned": "\u202egnp.exe \u2066evil\u2069 \u200f\u05e9\u05dc\u05d5\u05dd",
    "long": "W" * 500,
    "huge": "H" * 10_000,
    "unseen": "\u200bBit\u200d\ufeffcoin\u00ad",
    "faces": "👩\u200d👩\u200d👧\u200d👦 🏴\u200d☠\ufe0f",
    "lines": "one\ntwo\r\n\tthree",
    "a/b?c=d&e#f%2F 硬币/../x": "硬币 「コイン」 코인",
}
"""Names by the ids of their records."""


def empty(_conn: Connection) -> None:
    """Nothing ever ran."""


def fresh(conn: Connection) -> None:
    """Every source ran a day long, and lately."""
    for number in range(24, 0, -1):
        for place, source in enumerate(SOURCES):
            rows = 900 * (4 - place) + 37 * ((number * (place + 3)) % 11)
            add_run(conn, source, ago=3600 * number - 3500 + 60 * place, took=4 + place + number % 3, records_updated=rows, trigger="cron")
    for source in SOURCES:
        hold(conn, source)
    conn.execute(
        """insert into etl_rate_limits (source, calls, calls_per_period, period_seconds)
        values ('coingecko', array_fill(now(), array[7]), 30, 60), ('coinpaprika', array_fill(now(), array[3]), 600, 3600)"""
    )


def hold(conn: Connection, source: str, run_id: int | None = None, expires: int | None = None) -> None:
    """Write a source's checkpoint; `expires`: seconds from now until its lease runs out."""
    position: dict[str, Any] = {"cursor": {"page": 3, "started": now().isoformat()}}
    if expires is not None:
        position["pending"] = {"sha256": "7c1f" * 16, "next": 2500, "url": "https://upstream.example/list?page=3", "meta": {}, "cursor": {}}
    conn.execute(
        """insert into etl_checkpoints (source, position, records_total, run_id, holder, lease_expires_at)
        values (%(source)s, %(position)s, 2500, %(run_id)s, 'host:1', now() + make_interval(secs => %(expires)s))
        on conflict (source) do update
        set position = excluded.position, run_id = excluded.run_id, lease_expires_at = excluded.lease_expires_at, updated_at = now()""",
        {"source": source, "position": json.dumps(position), "run_id": run_id, "expires": expires},
    )


def late(conn: Connection) -> None:
    """The feeds' schedule stopped some hours ago, the rest is fresh."""
    for source in SOURCES[:3]:
        add_run(conn, source, ago=600, records_updated=900, trigger="cron")
    for number in range(9, 1, -1):
        add_run(conn, "rss", ago=6 * 3600 * number + 3720, took=2, records_updated=30, trigger="cron")


def failed(conn: Connection) -> None:
    """One source fails, one was refused, one was abandoned, one is partial; each outcome is there."""
    fresh(conn)
    add_run(conn, "csv", "cancelled", ago=120, took=3)
    add_run(
        conn, "csv", "partial", ago=90, took=40, records_inserted=9871, records_quarantined=129, error_message="129 records quarantined"
    )
    for source, status, message in (
        ("rss", "failed", "https://feeds.example/rss answered 429 (slow down): try again later"),
        ("coingecko", "refused", "upstream's list has 312 records, usually 1000: pass --allow-shrink if that is right"),
        ("coinpaprika", "abandoned", "its process went away: the next run went on where it stopped"),
    ):
        add_run(conn, source, status, ago=60, took=11, error_type=status.title(), error_message=message, trigger="cron")
    run_id = add_run(conn, "csv", "queued", trigger="api")
    for number in range(129):
        add_quarantined(conn, run_id - 4, "csv", b'BTC,Bitcoin,"%d,50"' % number)


def running(conn: Connection) -> None:
    """One source loads, one has lost its process."""
    fresh(conn)
    busy = add_run(conn, "coinpaprika", "running", ago=-20, took=40, records_updated=2200, batches=3, trigger="cron")
    hold(conn, "coinpaprika", busy, 60)
    for seq in range(1, 4):
        add_batch(conn, busy, "coinpaprika", seq, at=10 * seq - 32)
    gone = add_run(conn, "rss", "running", ago=0, took=3000, records_updated=12, batches=1, trigger="cron")
    hold(conn, "rss", gone, -2460)


def add_batch(conn: Connection, run_id: int, source: str, seq: int, at: float, quarantined: int = 0) -> None:
    """Write one committed batch of 500 records; `at`: seconds from now."""
    conn.execute(
        """insert into etl_batches (source, seq, run_id, epoch, raw_id, first_position, next_position, inserted, updated, unchanged,
        quarantined, committed_at) values (%s, %s, %s, 1, 1, %s, %s, 0, %s, 0, %s, %s)""",
        [source, seq, run_id, seq * 500, seq * 500 + 500, 500 - quarantined, quarantined, now() + timedelta(seconds=at)],
    )


def drifted(conn: Connection) -> None:
    """An upstream renamed a field and was refused; others changed too."""
    fresh(conn)
    message = "price_usd looks renamed to usd_price (confidence 0.93): kasparro-etl drift accept 1 if that is right"
    run_id = add_run(conn, "coinpaprika", "refused", ago=30, error_type="Refused", error_message=message, trigger="cron")
    for field, change, suggested, confidence, note, relied in (
        ("price_usd", "renamed", "usd_price", 0.93, None, True),
        ("volume_24h", "renamed", "vol24", 0.71, "magnitude differs by a factor of 100", True),
        ("beta_value", "added", None, None, None, False),
    ):
        conn.execute(
            """insert into schema_drift (source, field, change, suggested_field, confidence, sample, note, relied, run_id)
            values ('coinpaprika', %s, %s, %s, %s, '"64210.55", "3120.10", "0.9998"', %s, %s, %s)""",
            [field, change, suggested, confidence, note, relied, run_id],
        )


def hostile(conn: Connection) -> None:
    """Every text that an upstream or a file may bring is made to harm."""
    run_id = add_run(conn, SCRIPT, "failed", error_type=SCRIPT, error_message=f"{SCRIPT} \u202e \x1b[31m", host=SCRIPT, version=SCRIPT)
    for number, (external_id, name) in enumerate(HOSTILE.items()):
        add_record(conn, external_id, name, prices=[100 + number, 250, 90, 180])
    for source in ("csv", SCRIPT):
        add_quarantined(conn, run_id, source, record=SCRIPT.encode() + b"\xff\x00")
    conn.execute(
        """insert into schema_drift (source, field, change, suggested_field, confidence, sample, note, relied, run_id)
        values (%(bad)s, %(bad)s, 'renamed', %(bad)s, 0.5, %(bad)s, %(bad)s, true, %(run)s)""",
        {"bad": SCRIPT, "run": run_id},
    )


def add_record(conn: Connection, external_id: str, name: str, prices: list[float], source: str = "csv", kind: str = "asset") -> None:
    """Write a record with its payload and its prices, one every six hours up to now."""
    body = json.dumps([{"id": external_id, "name": name}], ensure_ascii=False).encode()
    run_id = add_run(conn, source, records_inserted=1, batches=1)
    facts: dict[str, Any] = {"source": source, "id": external_id, "name": name, "kind": kind, "run": run_id, "body": body}
    raw = conn.execute(
        """insert into raw_payloads (source_type, source, run_id, fetched_at, url, sha256, body)
        values ('api', %(source)s, %(run)s, now(), 'https://upstream.example/list', sha256(%(body)b), %(body)b) returning id""",
        facts,
    ).fetchone()
    facts |= {"raw": raw["id"] if raw else 0, "price": prices[-1] if prices else None}
    conn.execute(
        """insert into unified_data (source, source_type, external_id, kind, symbol, name, category, price_usd, raw_id,
        raw_position, run_id) values (%(source)s, 'api', %(id)s, %(kind)s, 'SYM', %(name)s, 'coin', %(price)s, %(raw)s, 0, %(run)s)""",
        facts,
    )
    for place, price in enumerate(reversed(prices)):
        conn.execute(
            """insert into price_history (source, external_id, observed_at, price_usd, run_id)
            values (%(source)s, %(id)s, %(at)s, %(price)s, %(run)s)""",
            facts | {"at": now() - timedelta(hours=6 * place), "price": price},
        )


STATES: dict[str, Callable[[Connection], None]] = {
    "empty": empty,
    "fresh": fresh,
    "late": late,
    "failed": failed,
    "running": running,
    "drifted": drifted,
    "hostile": hostile,
}
"""Every state a database may be in, by its name."""
