"""`API_RATE_LIMIT`, and the windows that the workers share."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from web.limits import client_of
from web.windows import WAYS, Windows, take


def test_what_is_over_the_limit_is_refused_and_told_when_to_come_back(app: Callable[..., Flask]) -> None:
    client = app(API_RATE_LIMIT="3/60").test_client()
    where: dict[str, Any] = {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}}
    answers = [client.get("/runs", **where) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0", "r=0"]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"default";q=3;w=60'}
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert answers[-1].mimetype == "application/problem+json"
    assert client.get("/nothing", **where).status_code == 429
    assert client.get("/runs", environ_base={"REMOTE_ADDR": "192.0.2.2"}).status_code == 200


def test_probes_and_scrapers_are_never_refused(app: Callable[..., Flask]) -> None:
    client = app(API_RATE_LIMIT="1/3600").test_client()
    for path in ("/health", "/health/live", "/health/ready", "/metrics", "/observability/metrics"):
        for _ in range(3):
            answer = client.get(path, environ_base={"REMOTE_ADDR": "192.0.2.3"})
            assert (answer.status_code, "RateLimit" in answer.headers) == (200, False)


def test_a_forged_address_counts_only_behind_as_many_proxies_as_are_trusted(app: Callable[..., Flask]) -> None:
    def asked(client: Any, base: str) -> list[int]:
        sent = [{"X-Forwarded-For": f"198.51.100.{number}"} for number in range(3)]
        return [client.get("/runs", headers=headers, environ_base={"REMOTE_ADDR": base}).status_code for headers in sent]

    assert asked(app(API_RATE_LIMIT="1/61").test_client(), "192.0.2.4") == [200, 429, 429]
    assert asked(app(API_RATE_LIMIT="1/62", API_TRUSTED_PROXIES="1").test_client(), "192.0.2.4") == [200, 200, 200]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
    ],
)
def test_a_client_is_an_address_or_a_network_of_version_six(one: str, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


def test_a_window_ends_and_another_begins() -> None:
    windows = Windows()
    assert [take(windows, "a", 2, 0.2).allowed for _ in range(3)] == [True, True, False]
    time.sleep(take(windows, "a", 2, 0.2).seconds + 0.01)
    assert take(windows, "a", 2, 0.2).allowed


def test_no_count_is_lost_between_threads_and_processes() -> None:
    windows, fork = Windows(), multiprocessing.get_context("fork")

    def work() -> None:
        for _ in range(200):
            take(windows, "a", 10_000, 600)

    children = [fork.Process(target=work) for _ in range(2)]
    for child in children:
        child.start()
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(work) for _ in range(4)]:
            each.result()
    for child in children:
        child.join()
    assert take(windows, "a", 10_000, 600).remaining == 10_000 - 6 * 200 - 1


def test_a_flood_of_clients_takes_no_more_memory_and_loses_only_the_oldest() -> None:
    windows = Windows()
    size = windows.memory.size()
    for number in range(3000):
        assert take(windows, f"client {number}", 1, 600).allowed
    refused = sum(not take(windows, f"client {number}", 1, 600).allowed for number in range(3000))
    assert (windows.memory.size(), refused, WAYS) == (size, 3000, 8)
