"""Every page and state in a real browser: no rule of axe-core broken, nothing refused by the policy, nothing wider than the screen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import Site
from tests.browser.screenshots import PAGES
from tests.web.boards import STATES
from tests.web.conftest import wait_until
from tests.web.world import add_run
from web import dashboard
from web.board import Board, current_board

LOOKS = [(wide, dark) for wide in (360, 1600) for dark in (False, True)]


@pytest.mark.parametrize("state", STATES)
def test_every_page_of_every_state_is_accessible_and_fits(
    browser: Browser, site: Callable[[str], Site], pictures: Path, state: str
) -> None:
    browser.driver.get("about:blank")  # a page of the test before may still ask for a server that is gone
    browser.complaints()
    shown = site(state)
    for name, path in {"": "/", "pairs": "/compare-runs", "find": "/search?q=a", **PAGES.get(state, {})}.items():
        for wide, dark in LOOKS:
            browser.show(shown.url + path, wide=wide, dark=dark)
            place = f"{state} {path} {wide} {'dark' if dark else 'light'}"
            found = [(each["id"], each["nodes"][0]["html"], each["nodes"][0].get("failureSummary")) for each in browser.violations()]
            assert not found, place
            assert browser.evaluate("document.documentElement.scrollWidth") <= wide, place
            assert (
                browser.evaluate(
                    "document.fonts.size + performance.getEntriesByType('resource').filter("
                    "each => !each.name.startsWith(location.origin)).length"
                )
                == 0
            ), place
            browser.picture(pictures / f"{'-'.join(filter(None, (state, name)))}-{wide}-{'dark' if dark else 'light'}.png")
    assert [line for line in browser.complaints() if "404" not in line] == []


@pytest.mark.parametrize("state", ["failed", "running", "hostile"])
def test_at_no_width_is_a_page_wider_than_the_screen(browser: Browser, site: Callable[[str], Site], state: str) -> None:
    shown = site(state)
    for wide in (320, 500, 768, 1024, 1300, 1519, 1521, 1920):
        for path in ("/", "/runs/1", "/compare-runs"):
            browser.show(shown.url + path, wide=wide)
            assert browser.evaluate("document.documentElement.scrollWidth") <= wide, f"{path} {wide}"


@pytest.mark.parametrize("state", STATES)
def test_without_scripts_every_state_says_the_same(browser: Browser, site: Callable[[str], Site], state: str) -> None:
    shown = site(state)
    browser.show(f"{shown.url}/")
    told = browser.evaluate("document.title + document.querySelector('h1').innerText")
    browser.show(f"{shown.url}/", scripts=False)
    assert browser.evaluate("document.title + document.querySelector('h1').innerText") == told
    assert browser.evaluate("document.querySelectorAll('meta[http-equiv=refresh]').length") == 1
    assert browser.evaluate("document.querySelector('a.skip').getAttribute('href')") == "#main"


def test_a_hostile_name_is_shown_as_text(browser: Browser, site: Callable[[str], Site]) -> None:
    shown = site("hostile")
    browser.complaints()
    for path in ("/", "/runs/1", "/assets/csv/script", "/search?q=SYM"):
        browser.show(shown.url + path)
        assert browser.evaluate("document.querySelectorAll('main script, main img').length") == 0
        assert "<script>alert(1)</script>" in str(browser.evaluate("document.body.innerText"))
    assert browser.complaints() == []


def test_with_scripts_a_change_is_shown_without_a_reload(browser: Browser, site: Callable[[str], Site]) -> None:
    shown = site("fresh")
    browser.show(f"{shown.url}/")
    browser.evaluate("window.same = true")
    assert "All 4 sources fresh" in browser.driver.title
    add_run(shown.conn, "rss", "failed", ago=0, error_message="upstream said no")
    wait_until(lambda: "rss failed" in browser.driver.title)
    assert browser.evaluate("window.same") is True
    assert "upstream said no" in str(browser.evaluate("document.querySelector('main').innerText"))


def test_what_failed_between_the_page_and_its_first_event_is_shown(
    browser: Browser, site: Callable[[str], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, events, runs = site("fresh"), dashboard.list_events, list[int]()

    def fail_first(*given: Any) -> Iterator[str]:
        runs[:] = runs or [add_run(shown.conn, "rss", "failed", ago=0)]
        return events(*given)

    monkeypatch.setattr("web.board.STANDS", 1e-6)
    monkeypatch.setattr(dashboard, "list_events", fail_first)
    browser.show(f"{shown.url}/")
    browser.evaluate("for (let timer = 1; timer < 100; timer++) clearInterval(timer)")
    wait_until(lambda: "rss failed" in browser.driver.title)


def test_the_keyboard_reaches_the_content_first_and_the_focus_is_seen(browser: Browser, site: Callable[[str], Site]) -> None:
    shown = site("failed")
    browser.show(f"{shown.url}/")
    keyed = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    seen = []
    for _ in range(8):
        browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", **keyed})
        browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **keyed})
        seen.append(browser.evaluate("document.activeElement.innerText.trim() || document.activeElement.id"))
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen[:7] == ["Skip to the content", "Kasparro ETL", "Dashboard", "Compare", "API", "q", "Search"]
    assert seen[7].startswith("Run ")


def test_a_checkpoint_that_was_opened_stays_open_when_the_page_is_renewed(browser: Browser, site: Callable[[str], Site]) -> None:
    shown = site("fresh")
    browser.show(f"{shown.url}/")
    browser.evaluate("document.querySelector('#checkpoint-2 summary').click()")
    add_run(shown.conn, "rss", "failed", ago=0, error_message="upstream said no")
    wait_until(lambda: "rss failed" in browser.driver.title)
    assert browser.evaluate("[...document.querySelectorAll('details[open]')].map(each => each.id).join()") == "checkpoint-2"
    assert "rss failed" in str(browser.evaluate("document.querySelector('[role=status]').textContent"))


def test_a_server_that_is_gone_is_told_on_the_page(browser: Browser, site: Callable[[str], Site]) -> None:
    shown = site("fresh")
    browser.show(f"{shown.url}/")
    browser.driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        browser.evaluate("renew()")
        wait_until(lambda: bool(browser.evaluate("document.querySelector('main > [role=alert]') !== null")))
        assert "what stands below is old" in str(browser.evaluate("document.querySelector('[role=alert]').textContent"))
        assert "not reached" in browser.driver.title
    finally:
        browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    browser.evaluate("renew()")
    wait_until(lambda: "All 4 sources fresh" in browser.driver.title)
    assert browser.evaluate("document.querySelector('[role=alert]') === null")
    browser.complaints()


def test_a_server_that_says_nothing_is_told_on_the_page_and_asked_again(
    browser: Browser, site: Callable[[str], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, thawed = site("fresh"), threading.Event()

    def frozen() -> Board:
        thawed.wait(600)
        return current_board()

    browser.show(f"{shown.url}/")
    monkeypatch.setattr("web.dashboard.current_board", frozen)
    try:
        browser.evaluate("patience = 200")
        browser.evaluate("renew()")
        wait_until(lambda: browser.driver.title == "✗ server is not reached | Kasparro ETL")
        assert "what stands below is old" in str(browser.evaluate("document.querySelector('main > [role=alert]').textContent"))
    finally:
        thawed.set()
    browser.evaluate("patience = 60000")
    browser.evaluate("renew()")
    wait_until(lambda: "All 4 sources fresh" in browser.driver.title)
    assert browser.evaluate("document.querySelector('[role=alert]') === null")
    browser.complaints()


@pytest.mark.parametrize("environ", [{"API_RATE_LIMIT": "10/3601"}])
def test_a_page_that_is_refused_says_that_it_is_old(browser: Browser, site: Callable[[str], Site]) -> None:
    shown = site("fresh")
    browser.show(f"{shown.url}/")
    for _ in range(20):
        browser.driver.execute_async_script("renew().then(arguments[0])")
    assert browser.driver.title == "✗ server answers 429 | Kasparro ETL"
    assert "what stands below is old" in str(browser.evaluate("document.querySelector('main > [role=alert]').textContent"))
    assert "coingecko" in str(browser.evaluate("document.querySelector('main').innerText"))
    browser.complaints()
