"""Pings of a monitor such as healthchecks.io: that a run starts, and how it ended. They never fail a run, and hardly delay it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from urllib.parse import urlsplit, urlunsplit

import structlog

from etl.errors import FetchError
from etl.exit_codes import exit_code
from etl.patience import Patience, Waits
from shared.settings import Settings

log = structlog.get_logger()

TIMEOUT = 10.0
"""Seconds a ping may take in all, its look-up of the name too."""
PATIENCE = Patience(connect=TIMEOUT / 2, silence=TIMEOUT / 2, response=TIMEOUT, tries=1, budget=TIMEOUT, body=65_536)


@dataclass(slots=True)
class Pinged:
    """The exit code that the block is about to end with, and the pings that did not come through, each with what came of it."""

    code: int = 1
    failed: dict[str, str] = field(default_factory=dict)


@contextmanager
def pinged(settings: Settings, *, wanted: bool = True) -> Iterator[Pinged]:
    """Ping the start now and, when the block ends, the exit code that it set; one warning when a ping did not come through."""
    told = Pinged()
    if not wanted or settings.healthcheck_ping_url is None:
        yield told
        return
    url = settings.healthcheck_ping_url.get_secret_value()
    start, until = send(url, "start", told), time.monotonic() + TIMEOUT
    try:
        yield told
    except BaseException as error:
        told.code = 130 if isinstance(error, KeyboardInterrupt) else exit_code(error)
        raise
    finally:
        start.join(max(0.0, until - time.monotonic()))  # in this order, or the monitor takes a run that ended for one that goes on
        send(url, str(told.code), told).join(TIMEOUT)
        if told.failed:
            log.warning("ping failed", pings=dict(told.failed))


def send(url: str, what: str, told: Pinged) -> threading.Thread:
    """Ping in the background: a name server that does not answer is bounded by nothing but our leaving it alone."""
    told.failed[what] = "no answer"
    thread = threading.Thread(target=ping, args=(address(url, what), what, told), daemon=True)
    thread.start()
    return thread


def ping(url: str, what: str, told: Pinged) -> None:
    """Ask once; a redirect is not followed. The address is a secret, so no error's text is kept."""
    with suppress(Exception):
        try:
            import_module("etl.fetch").fetcher(Waits(pause=time.sleep, throttle=lambda: 0.0), PATIENCE)(url)
        except FetchError as error:
            told.failed[what] = f"answered {error.status}" if error.status else "no answer"
        else:
            del told.failed[what]


def address(url: str, what: str) -> str:
    """The address of a ping; a query stays where it belongs."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{what}"))
