"""What an operator sees at a terminal of 100 columns: no table is wider, and none cuts what is needed to act."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.lease import Counts
from etl.report import line
from etl.work import Outcome
from shared.db import Connection

COLUMNS = 100
Screen = Callable[..., list[str]]


@pytest.fixture
def screen(dsn: str, tmp_path: Path) -> Screen:
    """Run a command at a terminal and return the lines it shows, without what it wiped."""

    def show(*args: str) -> list[str]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn, "TERM": "xterm"}
        command = [str(Path(sys.executable).parent / "kasparro-etl"), *args]
        with subprocess.Popen(command, env=env, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            told = b""
            while piece := read(ours):
                told += piece
            process.wait(60)
        os.close(ours)
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.split("\r")[-1]) for text in told.decode().replace("\r\n", "\n").splitlines()]

    return show


def read(descriptor: int) -> bytes:
    """Read from a terminal, nothing once the other side closed it."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


YEARS = """
insert into etl_runs (source, trigger, status, started_at, finished_at, records_extracted, records_inserted, records_updated,
    records_unchanged, records_quarantined, error_type, error_message, host, pid, version)
select (array['coinpaprika', 'coingecko', 'csv', 'rss'])[1 + n % 4], 'api', (array['cancelled', 'abandoned', 'partial'])[1 + n % 3],
    '2026-11-21 14:37:50+00', '2026-11-21 16:37:50+00', 12345678, 1234567, 1110000, 10000000, 1111, 'SourceError',
    'https://api.coingecko.com/api/v3/coins/markets answered 429 (Too Many Requests): wait, or set COINGECKO_RATE_LIMIT',
    'etl-7d9c5b6f4d-x2vqk.prices.svc', 12345, '0.1.0'
from generate_series(1, 1234) n;

insert into etl_checkpoints (source, position, records_total, run_id, holder, lease_expires_at)
select s, '{"cursor": {"files": {"/srv/prices/2026/november/assets-of-today.csv": {}, "/srv/b.csv": {}}}}', 123456789, 1234,
    'etl-7d9c5b6f4d-x2vqk.prices.svc pid 12345', clock_timestamp() + interval '1 minute'
from unnest(array['coinpaprika', 'coingecko', 'csv', 'rss']) s;

insert into data_counts (source, source_type, kind, category, status, records)
select s, 'api', 'asset', 'coin', 'active', 381481203 from unnest(array['coinpaprika', 'coingecko', 'csv', 'rss']) s;

insert into quarantined_records (source, run_id, raw_id, raw_position, record, fingerprint, errors, external_id, attempts)
values ('coinpaprika', 1234, 123456, 4999, '{"id": "x"}', 'x',
    '[{"field": "quotes.USD.price", "reason": "expected a number in US dollars, not negative, such as 1234.56"}]',
    'wrapped-staked-usdt-of-another-chain', 123);

insert into schema_drift (source, field, change, suggested_field, confidence, sample, last_seen_at, run_id)
values ('coinpaprika', 'quotes.USD.percent_from_price_ath', 'renamed', 'quotes.USD.percent_from_the_highest_price', 0.93,
    '-12.34, -56.78, -99.99 of a thousand records and more', '2026-11-21 14:37:50+00', 1234);

insert into etl_batches (source, seq, run_id, epoch, raw_id, first_position, next_position, inserted, updated, unchanged, quarantined)
select 'csv', 12345600 + n, 1234, 1, 123456789, 4995000, 5000000, 5000, 0, 0, 0 from generate_series(1, 30) n;

insert into raw_payloads (id, source_type, source, run_id, fetched_at, url, sha256, body)
values (123456789, 'csv', 'csv', 1234, now(), '/srv/prices/2026/november/assets-of-today.csv#L4995001-5000000', 'x', 'x');
"""


@pytest.fixture
def years(conn: Connection) -> None:
    """A database after years of use: long numbers, long names, long errors."""
    for statement in YEARS.split(";\n"):
        conn.execute(statement.encode())


@pytest.mark.usefixtures("years")
@pytest.mark.parametrize(
    ("args", "whole"),
    [
        (["runs", "list"], ["1234", "coinpaprika", "abandoned", "2026-11-21 14:37", "12,345,678", "1,111", "https://api.coingec"]),
        (["runs", "show", "1234"], ["12345630", "4995001-5000000", "5,000", "#L4995001-5000000"]),
        (["runs", "compare", "1233", "1234"], ["12,345,678", "RUN 1233"]),
        (["status"], ["coinpaprika", "381,481,203", "etl-7d9c5b6f"]),
        (["checkpoints", "show"], ["3,802,468,824", "1234", "etl-7d9c5b6f", "2 files: /srv"]),
        (["quarantine", "list"], ["coinpaprika", "wrapped-staked-usdt", "123", "quotes.USD.price: exp"]),
        (["drift", "list"], ["coinpaprika", "quotes.USD.percent_from_price_ath", "renamed", "2026-11-21 14:37"]),
        (["backfill", "--plan", "--source", "coingecko", "--assets", "a,b", "--from", "2026-01-01", "--to", "2026-03-01"], ["coingecko"]),
        (["sources"], ["coinpaprika", "https://api.coingecko.com/api/v3/coins/markets"]),
        (["help", "exit-codes"], ["run again to go on"]),
        (["doctor", "--offline"], ["✔ schema"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and len(value) < 4 else "",
)
def test_every_table_fits_100_columns_and_shows_what_is_needed(screen: Screen, args: list[str], whole: list[str]) -> None:
    lines = screen(*args)
    shown = [text for text in lines if not text.startswith(("error_message", "✔", "!", "✘")) and ": https://" not in text]
    assert [text for text in shown if len(text) > COLUMNS] == []
    assert [part for part in whole if not any(part in text for text in lines)] == []


@pytest.mark.parametrize("seconds", [0.4, 9999.9])
def test_the_line_of_a_run_fits_100_columns(seconds: float) -> None:
    outcome = Outcome("coinpaprika", "partial", 1, Counts(1_000_000, 100_000, 1_000_000, 9_999), seconds=seconds)
    assert len(line(outcome, None)) <= COLUMNS


def test_commands_without_anything_to_show_say_what_comes_next(screen: Screen) -> None:
    said = {
        args: screen(*args.split())[-1]
        for args in ("runs list", "checkpoints show", "worker --once", "quarantine list", "quarantine retry")
    }
    assert said == {
        "runs list": "nothing has run yet: kasparro-etl run --source all",
        "checkpoints show": "no source has run yet: kasparro-etl run --source all",
        "worker --once": "nothing is queued: POST /etl/run queues a run",
        "quarantine list": "nothing is quarantined",
        "quarantine retry": "nothing was tried: no entry is open, see kasparro-etl quarantine list --all",
    }
