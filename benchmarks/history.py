"""The price history over many points: milliseconds of each kind of question, asked of the web app as its clients ask.

python -m benchmarks.history [--points 100000000] [--assets 1000] [--requests 200] [--minutes 25] [--home FOLDER] [--cold]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from flask.testing import FlaskClient

from benchmarks.results import table
from shared import embedded
from shared.db import connect
from shared.logs import configure
from shared.migrations import migrate
from shared.settings import Settings
from web import create_app

FIRST = datetime(2022, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
FASTER = {"max_wal_size": "8GB", "wal_level": "minimal", "max_wal_senders": "0"}
"""A partition that is made and filled in one transaction is then not logged."""
MONTH = """
insert into price_history (source, external_id, observed_at, price_usd, market_cap_usd, volume_24h_usd, run_id)
select 'coingecko', name, at, price, price * 19000000, price * 310000, 1
from generate_series(%(low)s::timestamptz, %(high)s::timestamptz - interval '1 second', %(step)s) at,
    (select 'asset-' || a as name, a from generate_series(1, %(assets)s) a) assets,
    lateral (select round((a * (1 + random()))::numeric, 8) as price) made
"""
ASSETS = """
insert into unified_data (source, source_type, external_id, kind, name, category, raw_id, raw_position, run_id)
select 'coingecko', 'api', 'asset-' || a, 'asset', 'Asset ' || a, 'uncategorized', 1, a, 1 from generate_series(1, %(assets)s) a
"""
LAST = "select max(observed_at) as at from price_history where source = 'coingecko' and external_id = 'asset-1'"
SIZE = """
select count(*) as months, pg_size_pretty(sum(pg_table_size(inhrelid))) as rows, pg_size_pretty(sum(pg_indexes_size(inhrelid))) as keys
from pg_inherits where inhparent = 'price_history'::regclass
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A question: in which steps, of how many days, and where they lie: at the end of the history or anywhere in it."""

    interval: str
    days: int | None
    place: str = "last"


CASES = (
    Case("raw", 1),
    Case("raw", 10),
    Case("raw", 10, "any"),
    Case("raw", None),
    Case("1h", 1),
    Case("1h", 30),
    Case("1h", 30, "any"),
    Case("1h", None),
    Case("1d", 30),
    Case("1d", 365),
    Case("1d", None),
)


def fill(dsn: str, points: int, assets: int, minutes: float) -> tuple[int, datetime]:
    """Make the points month by month, each moment's of all assets at once as runs do; return how many and the moment behind the last."""
    began, last = time.monotonic(), FIRST + STEP * (points // assets)
    with connect(dsn, "benchmark") as conn:
        migrate(conn)
        conn.execute(ASSETS, {"assets": assets})
        low = FIRST
        while low < last and time.monotonic() - began < 60 * minutes:
            high = min((low + timedelta(days=32)).replace(day=1), last)
            with conn.transaction():
                conn.execute(b"select ensure_price_history(array[%(month)s::date])", {"month": low})
                conn.execute(MONTH.encode(), {"low": low, "high": high, "step": STEP, "assets": assets})
            low = high
            print(f"{(low - FIRST) // STEP * assets:,} points in {time.monotonic() - began:.0f} s", file=sys.stderr)
        conn.execute("vacuum (analyze) price_history")
        conn.execute("checkpoint")
        print(f"vacuumed in {time.monotonic() - began:.0f} s: {conn.execute(SIZE).fetchone()}", file=sys.stderr)
    return (low - FIRST) // STEP * assets, low


def made(dsn: str, assets: int) -> tuple[int, datetime] | None:
    """How many points a folder holds from before, and the moment behind the last; None when there are none."""
    with connect(dsn, "benchmark") as conn:
        migrate(conn)
        row = conn.execute(
            "select max(observed_at) as at from price_history where source = 'coingecko' and external_id = 'asset-1'"
        ).fetchone()
    if not row or not row["at"]:
        return None
    return ((row["at"] - FIRST) // STEP + 1) * assets, row["at"] + STEP


def ask(client: FlaskClient, case: Case, assets: int, last: datetime, requests: int, folder: Path | None) -> tuple[list[float], int]:
    """Milliseconds of each request, in order of size, and how many were not answered in time; each asks for an asset of chance.

    With a folder, each reads from the disk.
    """
    chance, took, late = Random(7), list[float](), 0
    for _ in range(requests):
        query = {"interval": case.interval}
        if case.days:
            span = timedelta(days=case.days)
            start = last - span if case.place == "last" else FIRST + chance.random() * (last - FIRST - span)
            query |= {"from": start.isoformat().replace("+00:00", "Z"), "to": (start + span).isoformat().replace("+00:00", "Z")}
        if folder:
            forget_files(folder)
        began = time.perf_counter()
        answer = client.get(f"/assets/coingecko/asset-{chance.randint(1, assets)}/history", query_string=query)
        took.append(1000 * (time.perf_counter() - began))
        if answer.status_code not in (200, 503):
            raise RuntimeError(f"{case}: {answer.text}")
        late += answer.status_code == 503
    return sorted(took), late


def forget_files(folder: Path) -> None:
    """Let the system forget what it holds of the files; Postgres's own buffers stay."""
    for file in folder.rglob("base/*/*"):
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def measure(dsn: str, assets: int, last: datetime, requests: int, folder: Path | None) -> Iterator[tuple[str, ...]]:
    """A line a case."""
    settings = Settings.model_validate({"log_level": "ERROR"})
    configure(settings)
    client = create_app(settings, dsn).test_client()
    for case in CASES:
        took, late = ask(client, case, assets, last, requests, folder)
        span = f"{case.place} {case.days} days" if case.days else "everything, first page"
        facts = (f"{took[len(took) * share // 100]:.1f}" for share in (50, 99))
        yield case.interval, span, *facts, f"{took[-1]:.1f}", str(late)


def main() -> None:
    """Make the points on a server of their own, ask, print what was found, and take everything away again."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.history", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--points", type=int, default=100_000_000)
    parser.add_argument("--assets", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--minutes", type=float, default=25, help="stop making points after so long")
    parser.add_argument("--home", type=Path, help="a folder that stays: without one, a temporary one")
    parser.add_argument("--cold", action="store_true", help="measure once more, the system forgetting the files before each request")
    told = parser.parse_args()
    home = told.home or Path(tempfile.mkdtemp(prefix="kasparro-history-"))
    home.chmod(0o711)
    try:
        with embedded.serve(home, settings=FASTER) as dsn:
            points, last = made(dsn, told.assets) or fill(dsn, told.points, told.assets, told.minutes)
            print(f"{points:,} points of {told.assets:,} assets, {told.requests} requests of each kind, milliseconds")
            for folder in (None, home) if told.cold else (None,):
                lines = list(measure(dsn, told.assets, last, told.requests, folder))
                print(f"\n{'files read from the disk' if folder else 'files as the system held them'}\n")
                print(table(("interval", "range", "p50", "p99", "worst", "not in time"), lines), flush=True)
    finally:
        if not told.home:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
