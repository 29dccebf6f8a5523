"""The budget of a backfill: what runs leave of the rate limit, and nothing while a run is under way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from etl.backfill import coingecko, coinpaprika, store
from etl.backfill.history import Ask
from etl.backfill.ranges import Range, expected_seconds, spare_calls, windows
from etl.lease import begin_run, finish_run
from etl.rate_limit import get_usage, take_call
from shared.db import Connection
from shared.model import RateLimit
from shared.settings import read_settings

LIMIT = RateLimit(6, 60)
NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_half_of_the_calls_stay_for_runs(conn: Connection) -> None:
    assert [store.take_spare_call(conn, "coingecko", LIMIT) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert 1 < store.take_spare_call(conn, "coingecko", LIMIT) <= 15
    assert [take_call(conn, "coingecko", LIMIT) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert take_call(conn, "coingecko", LIMIT) > 1
    usage = get_usage(conn, "coingecko")
    assert usage
    assert (usage.calls_per_period, usage.current_calls) == (6, 6)


def test_calls_of_runs_count_against_the_half_of_backfills(conn: Connection) -> None:
    for _ in range(3):
        take_call(conn, "coingecko", LIMIT)
    assert store.take_spare_call(conn, "coingecko", LIMIT) > 1


def test_a_backfill_waits_while_a_run_of_its_source_is_under_way(conn: Connection) -> None:
    run = begin_run(conn, "coingecko", "cli")
    assert store.take_spare_call(conn, "coingecko", LIMIT) > 0
    assert store.take_spare_call(conn, "coinpaprika", LIMIT) == 0.0
    finish_run(conn, run, "success")
    assert store.take_spare_call(conn, "coingecko", LIMIT) == 0.0


def test_a_limit_of_one_call_is_still_a_call() -> None:
    assert (spare_calls(RateLimit(1, 60)), expected_seconds(3, RateLimit(1, 60)), expected_seconds(3, None)) == (1, 180.0, 0.0)


@pytest.mark.parametrize(
    ("since", "until", "interval", "expected"),
    [
        ("2026-01-01", "2026-11-01", "1d", [("2026-01-01", "2026-11-01", True)]),
        ("2025-01-01", "2026-01-01", "1d", [("2025-01-01", "2025-11-23", False), ("2025-11-23", "2026-01-01", True)]),
        ("2024-01-01", "2025-01-01", "1d", [("2024-01-01", "2024-12-31", False), ("2024-12-31", "2025-01-01", False)]),
        ("2026-11-01", "2026-11-02", "5m", [("2026-11-01", "2026-11-02", False)]),
    ],
)
def test_windows_end_where_the_free_plan_ends(since: str, until: str, interval: str, expected: list[tuple[str, str, bool]]) -> None:
    found = windows(coinpaprika.HISTORY, read_settings({}), Range("coinpaprika", day(since), day(until), interval), NOW)
    assert [(f"{part.since:%Y-%m-%d}", f"{part.until:%Y-%m-%d}", part.allowed) for part in found] == expected


def test_a_key_is_not_guessed_about() -> None:
    settings = read_settings({"COINPAPRIKA_API_KEY": "k"})
    found = windows(coinpaprika.HISTORY, settings, Range("coinpaprika", day("2025-01-01"), day("2026-01-01"), "1d"), NOW)
    assert [part.allowed for part in found] == [True]
    call = coinpaprika.HISTORY.request(settings, Ask("战旗-?", day("2026-01-01"), day("2026-01-02"), "1h"), NOW)
    assert call.url == "https://api-pro.coinpaprika.com/v1/tickers/%E6%88%98%E6%97%97-%3F/historical"
    assert call.headers["Authorization"] == "k"


@pytest.mark.parametrize(("interval", "least", "most"), [("1d", 91, 365), ("1h", 2, 90), ("5m", 0, 1)])
def test_the_length_of_a_coingecko_range_gives_the_points_asked_for(interval: str, least: int, most: int) -> None:
    settings = read_settings({})
    wanted = Range("coingecko", day("2026-01-01"), day("2026-11-20"), interval)
    for part in windows(coingecko.HISTORY, settings, wanted, NOW):
        call = coingecko.HISTORY.request(settings, Ask("bitcoin", part.since, part.until, interval), NOW)
        since, until = (datetime.fromtimestamp(int(call.params[name]), UTC) for name in ("from", "to"))
        assert since <= part.since < part.until <= until <= NOW
        assert timedelta(days=least) <= until - since <= timedelta(days=most)
