"""Chromium without a screen: pages of any size, light or dark, with or without scripts, and what axe-core says of them."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "google-chrome", "chromium-browser")
"""Names of a browser that this driver drives: Debian's, Google's, Ubuntu's."""
DRIVER = "chromedriver"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = "return axe.run(document, {runOnly: arguments[0]}).then(found => JSON.stringify(found.violations))"
TALLEST = 6000


@dataclass(frozen=True)
class Browser:
    """An open browser."""

    driver: Chrome

    def show(self, url: str, *, wide: int = 1600, dark: bool = False, scripts: bool = True) -> None:
        """Load a page at a width."""
        tell = self.driver.execute_cdp_cmd
        tell("Emulation.setDeviceMetricsOverride", {"width": wide, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        tell("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        tell("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.driver.get(url)

    def picture(self, path: Path, tallest: int = TALLEST) -> None:
        """Write the page as a picture, from its top down to a height."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        tall = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], tallest), "scale": 1}
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": tall})
        path.write_bytes(b64decode(found["data"]))

    def evaluate(self, expression: str) -> Any:
        """What an expression gives in the page, whether its own scripts may run or not."""
        return self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": expression, "returnByValue": True})["result"].get("value")

    def violations(self) -> list[dict[str, Any]]:
        """What axe-core finds wrong with the page."""
        script = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": script})
        found: list[dict[str, Any]] = json.loads(self.driver.execute_script(AXE, RULES))
        return found

    def complaints(self) -> list[str]:
        """What the browser itself complained of since it was last asked: refused by the policy, not found, failed scripts."""
        logged: Any = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in logged if entry["level"] in ("SEVERE", "WARNING")]


def missing() -> str:
    """Why no browser can be had here; empty when one starts."""
    found = {BROWSERS[0]: browser(), DRIVER: which(DRIVER), "axe_playwright_python": find_spec("axe_playwright_python")}
    if absent := [name for name, place in found.items() if not place]:
        return f"{', '.join(absent)} not found (Debian: apt-get install chromium chromium-driver)"
    try:
        with open_browser():
            return ""
    except WebDriverException as error:  # a driver of another version, or a container in which Chromium cannot confine itself
        return f"chromium does not start: {str(error.msg).splitlines()[0]}"


def browser() -> str | None:
    """Where the first browser of them is."""
    return next(filter(None, map(which, BROWSERS)), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium; nothing but loopback is reached."""
    options = ChromeOptions()
    arguments = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    for argument in [*arguments, "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
        options.add_argument(argument)
    options.binary_location = browser() or BROWSERS[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(which(DRIVER) or DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
