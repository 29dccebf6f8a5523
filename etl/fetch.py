"""The only way out to the network: whole responses or a FetchError; retries what is transient, waits as it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

import backoff
import requests
import structlog

from etl.addresses import is_inside, location_of, same_origin
from etl.connection import Inside
from etl.errors import FetchError, Transient
from etl.exchange import CONDITIONS, UNFIT, Client, send
from etl.patience import Patience, Waits
from etl.source import Fetch, Response
from shared.addresses import shown

__all__ = ["Patience", "Waits", "fetcher"]

log = structlog.get_logger()

MOST_REDIRECTS = 3
LONGEST = 2000
"""Characters of a condition; servers refuse requests of some thousand."""
USUAL = Patience()
RECOVERY = 300.0
"""Seconds until another attempt is worth it when upstream says nothing itself."""


def fetcher(waits: Waits, patience: Patience = USUAL) -> Fetch:
    """Make the fetch of one source and one run: it keeps its connections, and every try takes a call from the rate budget."""
    client = Client(waits, patience)

    def fetch(
        url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, follow_redirects: bool = False
    ) -> Response:
        request = prepare(client.session, url, headers or {}, params or {})
        return with_retries(lambda: follow(client, request, MOST_REDIRECTS if follow_redirects else 0), client)

    return fetch


def prepare(session: requests.Session, url: str, headers: Mapping[str, str], params: Mapping[str, str] = {}) -> requests.PreparedRequest:
    """Complete a request. Raises FetchError, without the header's value, for one that cannot be sent."""
    try:
        login = requests.utils.get_auth_from_url(url)
        # quirk: without an `auth` requests takes one from ~/.netrc, over the key we were given
        auth = login if any(login) else lambda request: request
        # What an upstream told of its last answer may be longer than any request may be: then all is asked for again.
        told = {name: value for name, value in headers.items() if name not in CONDITIONS or len(value) <= LONGEST}
        return session.prepare_request(requests.Request("GET", url, headers=told, params=dict(params), auth=auth))
    except (requests.RequestException, ValueError):
        raise FetchError(f"{shown(url)} {UNFIT}", permanent=True) from None


def with_retries(attempt: Callable[[], Response], client: Client) -> Response:
    """Try until there is a response, with full jitter between tries. Raises FetchError that says when trying again is worth it."""
    patience, delays = client.patience, backoff.expo(base=2, factor=1, max_value=client.patience.longest_delay)
    next(delays)
    for tried in range(1, patience.tries + 1):
        try:
            response = attempt()
        except Transient as failure:
            delay = failure.after if failure.after is not None else backoff.full_jitter(next(delays))
            if tried == patience.tries or delay > client.left:
                count = "1 try" if tried == 1 else f"{tried} tries"
                raise FetchError(f"{failure}, {count}: try again after {moment(failure.after)}", status=failure.status) from failure
            log.info("request retried", reason=str(failure), attempt=tried, delay_seconds=round(delay, 2))
            client.left -= delay
            client.waits.pause(delay)
        else:
            if tried > 1:
                log.info("request recovered", url=shown(response.url), attempts=tried)
            return response
    raise AssertionError("the last try returns or raises")


def moment(after: float | None) -> str:
    """When to try again: as upstream asks, else when most troubles have passed."""
    return f"{datetime.fromtimestamp(time.time() + (RECOVERY if after is None else after), UTC):%Y-%m-%dT%H:%M:%SZ}"


def follow(client: Client, request: requests.PreparedRequest, redirects: int) -> Response:
    """Send one request, and the redirects it is allowed, each within the rate limit. A host that no setting names must be public."""
    trusted = client.waits.allowed | {urlsplit(str(request.url)).hostname or ""}
    adapter, told = client.trusted, ""
    while True:
        while (wait := client.waits.throttle()) > 0:
            client.waits.pause(wait)
        started = time.monotonic()
        try:
            answer, location = send(client, adapter, request)
        except Transient:
            client.left -= time.monotonic() - started
            raise
        except Inside:
            raise inside(told) from None
        if answer:
            return answer
        told = f"{shown(str(request.url))} redirects to {shown(location_of(str(request.url), location))}"
        if redirects == 0:
            raise FetchError(f"{told}: put the final address into the settings", permanent=True)
        redirects -= 1
        request = redirected(client.session, request, location, told)
        host = urlsplit(str(request.url)).hostname or ""
        adapter = client.trusted if host in trusted else client.public
        # the connected socket is what counts; a name that leads inside by itself is not even asked
        if adapter is client.public and is_inside(host):
            raise inside(told)


def inside(told: str) -> FetchError:
    """The refusal of a redirect that leads into this network."""
    step = "put the final address into the settings, or its host into ETL_ALLOWED_HOSTS"
    return FetchError(f"{told}, which is inside this network: {step}", permanent=True)


def redirected(session: requests.Session, request: requests.PreparedRequest, location: str, told: str) -> requests.PreparedRequest:
    """The request that a redirect asks for; our headers go to the same host only. Raises FetchError when it is not http."""
    target = location_of(str(request.url), location)
    if urlsplit(target).scheme not in ("http", "https"):
        raise FetchError(f"{told}, which is not http or https: remove or replace the address", permanent=True)
    return prepare(session, target, request.headers if same_origin(str(request.url), target) else {})
