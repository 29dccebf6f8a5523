"""The request budget: how many calls pass, how long the next one waits, and that nobody gets around it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from etl.rate_limit import Usage, get_usage, take_call
from shared.db import Connection, connect, fetch_one
from shared.model import RateLimit

SECONDS = 0.2


def stored(conn: Connection, source: str = "coingecko") -> int:
    """How many calls the table holds of a source."""
    row = fetch_one(conn, b"select cardinality(calls) as n from etl_rate_limits where source = %(source)s", {"source": source})
    return int(row["n"]) if row else 0


def age(conn: Connection, seconds: float) -> None:
    """Let time pass for the calls that were counted."""
    query = "update etl_rate_limits set calls = array(select c - make_interval(secs => %s) from unnest(calls) c)"
    conn.execute(query, [seconds])


@pytest.mark.parametrize("calls", [1, 3, 30])
def test_so_many_calls_pass_and_the_next_one_is_told_when(conn: Connection, calls: int) -> None:
    limit = RateLimit(calls, 60)
    assert [take_call(conn, "coingecko", limit) for _ in range(calls)] == [0.0] * calls
    assert 58 < take_call(conn, "coingecko", limit) <= 60


def test_the_wait_shrinks_as_time_passes_and_ends_in_one_call(conn: Connection) -> None:
    limit = RateLimit(2, 60)
    take_call(conn, "coingecko", limit)
    age(conn, 50)
    take_call(conn, "coingecko", limit)
    assert 8 < take_call(conn, "coingecko", limit) <= 10
    age(conn, 11)
    assert take_call(conn, "coingecko", limit) == 0
    assert 47 < take_call(conn, "coingecko", limit) <= 49


def test_asking_when_there_is_no_room_takes_nothing(conn: Connection) -> None:
    limit = RateLimit(1, 60)
    waits = [take_call(conn, "coingecko", limit) for _ in range(5)]
    assert waits[0] == 0
    assert waits[1:] == sorted(waits[1:], reverse=True)
    assert stored(conn) == 1


def test_a_source_has_a_budget_of_its_own(conn: Connection) -> None:
    limit = RateLimit(1, 60)
    assert [take_call(conn, name, limit) for name in ("coingecko", "coinpaprika", "rss")] == [0, 0, 0]
    age(conn, 50)
    assert take_call(conn, "csv", limit) == 0
    assert 8 < take_call(conn, "coingecko", limit) <= 10


def test_two_connections_share_one_budget(dsn: str) -> None:
    limit = RateLimit(3, 60)
    with connect(dsn, "one") as one, connect(dsn, "two") as two:
        taken = [take_call(conn, "coingecko", limit) == 0 for conn in (one, two, one, two, one)]
    assert taken == [True, True, True, False, False]


def test_eight_threads_at_once_take_exactly_the_budget(dsn: str) -> None:
    def hammer(_: int) -> int:
        with connect(dsn, "tests") as conn:
            return [take_call(conn, "coingecko", RateLimit(10, 60)) for _ in range(10)].count(0.0)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(hammer, range(8))) == 10


def test_eight_threads_never_exceed_the_budget_in_any_window(dsn: str) -> None:
    limit, until = RateLimit(5, SECONDS), time.monotonic() + 4 * SECONDS

    def hammer(_: int) -> list[tuple[float, float]]:
        taken = []
        with connect(dsn, "tests") as conn:
            while (before := time.monotonic()) < until:
                if (wait := take_call(conn, "coingecko", limit)) == 0:
                    taken.append((before, time.monotonic()))
                else:
                    time.sleep(min(wait, 0.01))
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [call for calls in threads.map(hammer, range(8)) for call in calls]
    before, after = sorted(begun for begun, _ in taken), sorted(ended for _, ended in taken)
    assert len(taken) > 2 * limit.calls
    assert [last - first for first, last in zip(before, after[limit.calls :], strict=False) if last - first < SECONDS] == []


def test_what_is_stored_does_not_grow(conn: Connection) -> None:
    limit = RateLimit(5, 60)
    for _ in range(20):
        while take_call(conn, "coingecko", limit) == 0:
            pass
        assert stored(conn) == 5
        age(conn, 61)
    take_call(conn, "coingecko", limit)
    assert stored(conn) == 1


def test_a_limit_that_was_lowered_counts_the_calls_made_before(conn: Connection) -> None:
    for _ in range(4):
        take_call(conn, "coingecko", RateLimit(4, 60))
        age(conn, 10)
    assert 28 < take_call(conn, "coingecko", RateLimit(2, 60)) <= 40
    assert take_call(conn, "coingecko", RateLimit(5, 60)) == 0


@pytest.mark.parametrize("limit", [RateLimit(100_000, 366 * 24 * 3600), RateLimit(1, 0.001)])
def test_the_largest_and_the_shortest_limit_that_settings_accept_work(conn: Connection, limit: RateLimit) -> None:
    assert take_call(conn, "coingecko", limit) == 0
    assert take_call(conn, "coingecko", RateLimit(1, limit.seconds)) < limit.seconds + 1


def test_one_select_tells_the_limit_and_how_much_of_it_is_used(conn: Connection) -> None:
    assert get_usage(conn, "coingecko") is None
    for calls in range(1, 4):
        take_call(conn, "coingecko", RateLimit(30, 60))
        assert get_usage(conn, "coingecko") == Usage(30, 60, calls)
    age(conn, 61)
    assert get_usage(conn, "coingecko") == Usage(30, 60, 0)
    take_call(conn, "coingecko", RateLimit(10, 0.5))
    assert get_usage(conn, "coingecko") == Usage(10, 0.5, 1)


def test_a_call_that_finds_no_room_is_not_counted(conn: Connection) -> None:
    for _ in range(5):
        take_call(conn, "rss", RateLimit(2, 60))
    assert get_usage(conn, "rss") == Usage(2, 60, 2)


def test_calls_that_a_clock_set_back_left_in_the_future_hold_nobody_up(conn: Connection) -> None:
    limit = RateLimit(2, 60)
    for _ in range(2):
        take_call(conn, "coingecko", limit)
    age(conn, -86_400)
    assert take_call(conn, "coingecko", limit) == 0
    assert get_usage(conn, "coingecko") == Usage(2, 60, 1)
