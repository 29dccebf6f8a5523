"""`python -m tests.browser.screenshots`: pictures of every page and state, and the two that docs/dashboard.md shows."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from werkzeug.serving import make_server

from shared import embedded
from shared.db import connect
from shared.migrations import migrate
from shared.settings import read_settings
from tests.browser.chromium import Browser, open_browser
from tests.browser.conftest import Silent
from tests.conftest import named
from tests.web.boards import STATES
from web import create_app

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "screenshots"
SHOWN = {"fresh": ("dashboard.png", 1600, False, 1000), "drifted": ("dashboard-narrow.png", 360, True, 1200)}
"""The pictures of the docs by state: name, width, whether dark, height."""
LOOKS = [(wide, dark) for wide in (360, 1600) for dark in (False, True)]
PAGES = {
    "failed": {"run": "/runs/99", "compare": "/compare-runs?a=95&b=99", "compare-all": "/compare-runs"},
    "drifted": {"run": "/runs/97"},
    "running": {"run": "/runs/97"},
    "hostile": {"run": "/runs/1", "asset": "/assets/csv/script", "search": "/search?q=SYM", "none": "/runs/999"},
}
"""Pages beside the dashboard, by state."""


@contextmanager
def served(state: str, dsn: str) -> Iterator[str]:
    """Serve a new database in a state; the address."""
    with connect(dsn, "screenshots") as conn:
        conn.execute(f"create database {state}".encode())
    address = named(dsn, state)
    with connect(address, "screenshots") as conn:
        migrate(conn)
        STATES[state](conn)
    app = create_app(read_settings({}), address)
    with make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.shutdown()
        thread.join()


def take(browser: Browser, state: str, url: str) -> None:
    """Take the pictures of one state."""
    for name, path in {"": "/", **PAGES.get(state, {})}.items():
        for wide, dark in LOOKS:
            browser.show(url + path, wide=wide, dark=dark)
            browser.picture(PICTURES / f"{'-'.join(filter(None, (state, name)))}-{wide}-{'dark' if dark else 'light'}.png")
    if state in SHOWN:
        name, wide, dark, tall = SHOWN[state]
        browser.show(url, wide=wide, dark=dark)
        browser.picture(ROOT / "docs" / name, tall)


def main() -> None:
    """Take all pictures, on a database of its own."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="kasparro-screenshots-"))
    home.chmod(0o711)
    try:
        with embedded.serve(home / "home") as dsn, open_browser() as browser:
            for state in STATES:
                with served(state, dsn) as url:
                    take(browser, state, url)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    sys.stdout.write(f"{len(list(PICTURES.glob('*.png')))} pictures in {PICTURES.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
