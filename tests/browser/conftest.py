"""A browser without a screen, and the app on loopback over a database in a given state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from shared.db import Connection
from shared.settings import read_settings
from tests.browser.chromium import Browser, missing, open_browser
from tests.conftest import leave_out
from tests.web.boards import STATES
from web import create_app
from web.db import forget


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests in a browser belong to the suite only where one starts."""
    found = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
    if found and (why := missing()):
        leave_out(config, items, found, "in a browser", why)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests: opening a page costs tenths of a second, a browser seconds."""
    with open_browser() as opened:
        yield opened


class Silent(WSGIRequestHandler):
    """The app writes its own log."""

    def log(self, *told: object) -> None:
        pass


@dataclass(frozen=True)
class Site:
    """The app on loopback over the test's database."""

    url: str
    conn: Connection


@pytest.fixture
def environ() -> dict[str, str]:
    """The settings of the app, as in the environment."""
    return {}


@pytest.fixture
def site(dsn: str, conn: Connection, environ: dict[str, str]) -> Iterator[Callable[[str], Site]]:
    """Bring the database into a state and serve it."""
    app = create_app(read_settings(environ), dsn)
    reader = app.extensions["kasparro"].reader
    app.teardown_appcontext(lambda _: forget(reader))  # each request is a thread of its own here, which would leave its connection open
    with make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def show(state: str) -> Site:
            STATES[state](conn)
            return Site(f"http://127.0.0.1:{server.port}", conn)

        yield show
        server.shutdown()
        thread.join()


@pytest.fixture
def pictures() -> Path:
    """Where screenshots go: a folder that git ignores."""
    folder = Path(__file__).parents[2] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
