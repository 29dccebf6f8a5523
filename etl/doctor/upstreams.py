"""Checks of the upstreams: each address is asked once, as a run would ask it, within the same rate budget."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import formatdate

from etl.doctor.finding import Finding
from etl.errors import SourceError
from etl.fetch import Patience, Waits, fetcher
from etl.rate_limit import take_call
from etl.source import Fetch, Response, Source
from shared.addresses import shown
from shared.db import Connection
from shared.settings import Settings

PATIENCE = Patience(connect=3, silence=6, response=10, tries=1, budget=10)
LONGEST = 5.0
"""Seconds that a check waits for room in the rate budget."""


class Asked(Exception):
    """The upstream answered: no more is wanted of it."""

    def __init__(self, response: Response, seconds: float) -> None:
        super().__init__()
        self.response, self.seconds = response, seconds


class Busy(Exception):
    """The rate budget has no room for a question."""


def check_upstreams(settings: Settings, sources: Mapping[str, Source], conn: Connection | None) -> Iterator[Finding]:
    """Ask every address of every source that goes to the network."""
    for source in sources.values():
        for one in separate(settings, source):
            yield from ask(one, source, conn)


def separate(settings: Settings, source: Source) -> list[Settings]:
    """The settings as they are, or once for each feed."""
    if source.type != "rss":
        return [settings]
    return [settings.model_copy(update={"rss_feed_urls": (url,)}) for url in settings.rss_feed_urls]


def ask(settings: Settings, source: Source, conn: Connection | None) -> Iterator[Finding]:
    """Begin what a run begins, and end it with the first answer. Nothing for a source that asks nobody."""
    if source.type == "csv":
        return
    where = ", ".join(source.reads_from(settings))
    try:
        with suppress(StopIteration):
            next(source.extract(settings, questioner(settings, source, conn), {}))
    except Asked as asked:
        yield Finding(
            "✔",
            source.name,
            f"{shown(asked.response.url)} answered {asked.response.status} in {asked.seconds:.1f} s{key(settings, source)}",
        )
    except Busy:
        yield Finding(
            "!", source.name, f"the rate budget {source.rate_limit(settings)} is used up: {where} was not asked", "try again in a minute"
        )
    except SourceError as error:
        found, _, fix = str(error).rpartition(": ")
        yield Finding("✘", source.name, found or fix, fix if found else "see the message")


def questioner(settings: Settings, source: Source, conn: Connection | None) -> Fetch:
    """A fetch that asks once, and only for what changed since now: most upstreams then answer in a few bytes."""
    limit = source.rate_limit(settings)

    def throttle() -> float:
        return take_call(conn, source.name, limit) if limit and conn else 0.0

    def pause(seconds: float) -> None:
        if seconds > LONGEST:
            raise Busy
        time.sleep(seconds)

    door = fetcher(Waits(pause, throttle, allowed=frozenset(settings.etl_allowed_hosts or ())), PATIENCE)

    def fetch(
        url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, follow_redirects: bool = False
    ) -> Response:
        began = time.monotonic()
        only_new = {**(headers or {}), "If-Modified-Since": formatdate(usegmt=True)}
        response = door(url, params=params, headers=only_new, follow_redirects=follow_redirects)
        raise Asked(response, time.monotonic() - began)

    return fetch


def key(settings: Settings, source: Source) -> str:
    """Whether a key was sent along, and so accepted."""
    name = f"{source.name}_api_key"
    if name not in type(settings).model_fields:
        return ""
    return ", the key is accepted" if getattr(settings, name) else ", without a key"
