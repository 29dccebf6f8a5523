"""The only way out to the network: whole responses or a FetchError; retries what is transient, waits as it is told to."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from urllib.parse import urlsplit

import backoff
import requests
import structlog
from urllib3.exceptions import HTTPError, NameResolutionError, ProtocolError, ReadTimeoutError

from etl.addresses import is_inside, location_of, same_origin
from etl.body import body_parts, read_excerpt
from etl.errors import FetchError, Transient
from etl.refusal import refusal
from etl.source import Fetch, Response
from shared.addresses import shown

log = structlog.get_logger()

MOST_REDIRECTS = 3
LONG_DELAY = 5.0
"""Seconds from which on a wait is worth a line where nobody asked for details."""
UNFIT = "cannot be asked: check the address, and the API key for characters that no request may hold"
FAILURES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((NameResolutionError, socket.gaierror), "cannot be reached: its name does not resolve"),
    ((ConnectionRefusedError,), "cannot be reached: connection refused"),
    ((ssl.SSLCertVerificationError,), "cannot be trusted: its certificate is not valid"),
    ((TimeoutError, ReadTimeoutError, requests.Timeout), "did not answer in time"),
    ((ssl.SSLError,), "cannot be reached: no secure connection could be made"),
    ((ConnectionResetError, BrokenPipeError, http.client.HTTPException), "broke off in the middle of the answer"),
    ((ProtocolError,), "broke off in the middle of the answer"),
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upstream is waited for: seconds, tries, and the bytes a body may have once inflated."""

    connect: float = 5.0
    silence: float = 30.0
    response: float = 120.0
    tries: int = 4
    longest_delay: float = 30.0
    budget: float = 180.0
    body: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Waits:
    """How a fetch waits: `pause` sleeps and may raise Stopped; `throttle` says how long until the rate limit has room, 0 when it has.

    `beat` is called while a body comes in, so that a long one does not look like a dead process;
    within `listening` a request to stop may end the exchange by raising Stopped.
    """

    pause: Callable[[float], None]
    throttle: Callable[[], float]
    beat: Callable[[], None] = lambda: None
    listening: Callable[[], AbstractContextManager[None]] = nullcontext


def fetcher(waits: Waits, patience: Patience = Patience()) -> Fetch:
    """Make the fetch of one source and one run: it keeps its connections, and every try takes a call from the rate budget."""
    session = requests.Session()
    session.headers.update({"User-Agent": f"kasparro-etl/{version('kasparro-etl')}", "Accept-Encoding": "gzip"})

    def fetch(
        url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, follow_redirects: bool = False
    ) -> Response:
        request = prepare(session, url, headers or {}, params or {})
        return with_retries(lambda: follow(session, request, waits, patience, MOST_REDIRECTS if follow_redirects else 0), waits, patience)

    return fetch


def prepare(session: requests.Session, url: str, headers: Mapping[str, str], params: Mapping[str, str] = {}) -> requests.PreparedRequest:
    """Complete a request. Raises FetchError, without the header's value, for one that cannot be sent."""
    try:
        login = requests.utils.get_auth_from_url(url)
        # quirk: without an `auth` requests takes one from ~/.netrc, over the key we were given
        auth = login if any(login) else lambda request: request
        return session.prepare_request(requests.Request("GET", url, headers=dict(headers), params=dict(params), auth=auth))
    except (requests.RequestException, ValueError):
        raise FetchError(f"{shown(url)} {UNFIT}", permanent=True) from None


def with_retries(attempt: Callable[[], Response], waits: Waits, patience: Patience) -> Response:
    """Try until there is a response, with full jitter between tries. Raises FetchError that says when trying again is worth it."""
    spent, delays = 0.0, backoff.expo(base=2, factor=1, max_value=patience.longest_delay)
    next(delays)
    for tried in range(1, patience.tries + 1):
        try:
            response = attempt()
        except Transient as failure:
            delay = failure.after if failure.after is not None else backoff.full_jitter(next(delays))
            if tried == patience.tries or spent + delay > patience.budget:
                count = "1 try" if tried == 1 else f"{tried} tries"
                raise FetchError(f"{failure}, {count}: {when(failure.after)}", status=failure.status) from failure
            tell = log.info if delay >= LONG_DELAY else log.debug
            tell("request retried", reason=str(failure), attempt=tried, delay_seconds=round(delay, 2))
            spent += delay
            waits.pause(delay)
        else:
            return response
    raise AssertionError("the last try returns or raises")


def when(after: float | None) -> str:
    """Say when to try again."""
    if after is None:
        return "try again later"
    return f"try again after {datetime.fromtimestamp(time.time() + after, UTC):%Y-%m-%dT%H:%M:%SZ}"


def follow(session: requests.Session, request: requests.PreparedRequest, waits: Waits, patience: Patience, redirects: int) -> Response:
    """Send one request, and the redirects it is allowed, each within the rate limit."""
    named = urlsplit(str(request.url)).hostname
    while True:
        while (wait := waits.throttle()) > 0:
            waits.pause(wait)
        answer, location = send(session, request, patience, waits)
        if answer:
            return answer
        if redirects == 0:
            target = shown(location_of(str(request.url), location))
            raise FetchError(f"{shown(str(request.url))} redirects to {target}: put the final address into the settings", permanent=True)
        redirects -= 1
        request = redirected(session, request, location, named)


def redirected(session: requests.Session, request: requests.PreparedRequest, location: str, named: str | None) -> requests.PreparedRequest:
    """The request that a redirect asks for. Our headers go to the same host only, and a host that no setting `named` must be public."""
    target = location_of(str(request.url), location)
    told = f"{shown(str(request.url))} redirects to {shown(target)}"
    if urlsplit(target).scheme not in ("http", "https"):
        raise FetchError(f"{told}, which is not http or https: remove or replace the address", permanent=True)
    following = prepare(session, target, request.headers if same_origin(str(request.url), target) else {})
    host = urlsplit(str(following.url)).hostname
    if host != named and is_inside(host or ""):
        raise FetchError(f"{told}, which is inside this network: put the final address into the settings", permanent=True)
    return following


def send(session: requests.Session, request: requests.PreparedRequest, patience: Patience, waits: Waits) -> tuple[Response | None, str]:
    """Make one exchange: a complete response, or the address it redirects to. Raises Transient or FetchError."""
    deadline = time.monotonic() + patience.response
    around = session.merge_environment_settings(str(request.url), {}, True, None, None)
    try:
        # quirk: `session.send` reads the body of a redirect to its end, without a bound, even when it may not follow
        adapter = session.get_adapter(str(request.url))
        patient = (patience.connect, patience.silence)
        with waits.listening():
            answer = adapter.send(request, True, patient, around["verify"] or True, around["cert"], around["proxies"])
        with answer:
            if location := session.get_redirect_target(answer):
                return None, location
            headers = {name.lower(): value for name, value in answer.headers.items()}
            parts = body_parts(
                partial(read, answer, waits), answer.headers.get("Content-Encoding", ""), str(request.url), patience.body, deadline
            )
            if answer.status_code not in (200, 304):
                raise refusal(str(request.url), answer.status_code, headers, read_excerpt(parts))
            return Response(answer.status_code, b"".join(parts), headers, str(request.url)), ""
    except zlib.error as error:
        raise Transient(f"{shown(str(request.url))} answered with a broken gzip body") from error
    except EOFError as error:
        raise Transient(f"{shown(str(request.url))} answered with a gzip body that was cut short") from error
    except ValueError as error:
        raise FetchError(f"{shown(str(request.url))} {UNFIT}", permanent=True) from error
    except (OSError, HTTPError) as error:
        raise Transient(f"{shown(str(request.url))} {connection_failure(error)}") from error


def read(answer: requests.Response, waits: Waits, size: int) -> bytes:
    """Read what has come in of a body, at most `size` bytes."""
    with waits.listening():
        chunk: bytes = answer.raw.read1(size, decode_content=False)  # quirk: `read` waits until a chunk is full, however slowly it fills
    waits.beat()
    return chunk


def connection_failure(error: BaseException) -> str:
    """Say in words why there was no answer, by the kinds of its causes: their texts repeat the address."""
    kinds = tuple(type(cause) for cause in causes(error))
    for found, text in FAILURES:
        if any(issubclass(kind, found) for kind in kinds):
            return text
    return "cannot be reached"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and everything it was made from."""
    seen, waiting = set[int](), [error]
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [item for item in inner if isinstance(item, BaseException)]
