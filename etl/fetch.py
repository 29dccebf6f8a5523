"""The only way out to the network: whole responses or a FetchError; retries what is transient, waits as it is told to."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin, urlsplit

import backoff
import requests
import structlog
from urllib3.exceptions import HTTPError, NameResolutionError, ProtocolError, ReadTimeoutError

from etl.errors import FetchError
from etl.source import Fetch, Response

log = structlog.get_logger()

MOST_REDIRECTS = 3
CHUNK = 65536
LONG_DELAY = 5.0
"""Seconds from which on a wait is worth a line where nobody asked for details."""
EXCERPT = 10_000
LONGEST_WAIT = 1e9
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
    """How a fetch waits: `pause` sleeps and may raise Stopped; `throttle` says how long until the rate limit has room, 0 when it has."""

    pause: Callable[[float], None]
    throttle: Callable[[], float]


class Transient(Exception):
    """A failure that trying again may mend; `after` is what upstream asked us to wait, in seconds."""

    def __init__(self, message: str, status: int | None = None, after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.after = status, after


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
        answer, location = send(session, request, patience)
        if answer:
            return answer
        if redirects == 0:
            target = shown(location_of(request, location))
            raise FetchError(f"{shown(request.url)} redirects to {target}: put the final address into the settings", permanent=True)
        redirects -= 1
        request = redirected(session, request, location, named)


def redirected(session: requests.Session, request: requests.PreparedRequest, location: str, named: str | None) -> requests.PreparedRequest:
    """The request that a redirect asks for. Our headers go to the same host only, and a host that no setting `named` must be public."""
    target = location_of(request, location)
    told = f"{shown(request.url)} redirects to {shown(target)}"
    if urlsplit(target).scheme not in ("http", "https"):
        raise FetchError(f"{told}, which is not http or https: remove or replace the address", permanent=True)
    following = prepare(session, target, request.headers if same_origin(str(request.url), target) else {})
    host = urlsplit(str(following.url)).hostname
    if host != named and is_inside(host or ""):
        raise FetchError(f"{told}, which is inside this network: put the final address into the settings", permanent=True)
    return following


def location_of(request: requests.PreparedRequest, location: str) -> str:
    """The address a redirect names, completed. Raises FetchError when it is none."""
    try:
        return urlsplit(urljoin(str(request.url), location))._replace(fragment="").geturl()
    except ValueError:
        raise FetchError(f"{shown(request.url)} redirects to what is not an address: remove or replace it", permanent=True) from None


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses are of the same scheme, host and port; from http to https on their own ports is the same, back is not."""

    def origin(url: str) -> tuple[str, str | None, int]:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)

    try:
        before, after = origin(one), origin(other)
    except ValueError:
        return False
    return before == after or (before == ("http", after[1], 80) and after == ("https", after[1], 443))


def is_inside(host: str) -> bool:
    """Whether a name leads to this machine or its network. One that does not resolve does not: asking it fails by itself."""
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return False
    addresses = [ipaddress.ip_address(text) for text in found]
    plain = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    return any(not address.is_global or address.is_multicast for address in plain)


def send(session: requests.Session, request: requests.PreparedRequest, patience: Patience) -> tuple[Response | None, str]:
    """Make one exchange: a complete response, or the address it redirects to. Raises Transient or FetchError."""
    deadline = time.monotonic() + patience.response
    around = session.merge_environment_settings(str(request.url), {}, True, None, None)
    try:
        # quirk: `session.send` reads the body of a redirect to its end, without a bound, even when it may not follow
        adapter = session.get_adapter(str(request.url))
        patient = (patience.connect, patience.silence)
        with adapter.send(request, True, patient, around["verify"] or True, around["cert"], around["proxies"]) as answer:
            if location := session.get_redirect_target(answer):
                return None, location
            headers = {name.lower(): value for name, value in answer.headers.items()}
            parts = body_parts(answer, request, patience, deadline)
            if answer.status_code not in (200, 304):
                raise refusal(request, answer.status_code, headers, read_excerpt(parts))
            return Response(answer.status_code, b"".join(parts), headers, str(request.url)), ""
    except zlib.error as error:
        raise Transient(f"{shown(request.url)} answered with a broken gzip body") from error
    except EOFError as error:
        raise Transient(f"{shown(request.url)} answered with a gzip body that was cut short") from error
    except ValueError as error:
        raise FetchError(f"{shown(request.url)} {UNFIT}", permanent=True) from error
    except (OSError, HTTPError) as error:
        raise Transient(f"{shown(request.url)} {connection_failure(error)}") from error


def body_parts(answer: requests.Response, request: requests.PreparedRequest, patience: Patience, deadline: float) -> Iterator[bytes]:
    """Yield the body, inflated, within the bounds of size and time. Raises zlib.error or EOFError when gzip is broken or cut short."""
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise FetchError(f"{shown(request.url)} answered in an encoding we did not ask for: check the address", permanent=True)
    too_long = FetchError(f"{shown(request.url)} answered with more than {bytes_shown(patience.body)}: check the address", permanent=True)

    def wire() -> Iterator[bytes]:
        received = 0
        while chunk := answer.raw.read1(CHUNK, decode_content=False):  # quirk: `read` waits until a chunk is full, however slow it fills
            received += len(chunk)
            if received > patience.body:
                raise too_long
            if time.monotonic() > deadline:
                raise Transient(f"{shown(request.url)} was not read within {patience.response:g} s")
            yield chunk

    size = 0
    for part in inflate(wire()) if "gzip" in encoding else wire():
        size += len(part)
        if size > patience.body:
            raise too_long
        yield part


def inflate(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate every member of a gzip stream, a bounded part at a time. Raises zlib.error, and EOFError at an early end."""
    inflater, begun = zlib.decompressobj(wbits=31), False
    for chunk in chunks:
        begun, left = True, chunk
        while left:
            if inflater.eof:
                left = left.lstrip(b"\0")  # quirk: gzip files may be padded
                if not left:
                    break
                inflater = zlib.decompressobj(wbits=31)
            if part := inflater.decompress(left, CHUNK):
                yield part
            left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if begun and not inflater.eof:
        raise EOFError


def read_excerpt(parts: Iterator[bytes]) -> bytes:
    """Read the beginning of an error's body as far as that is possible: the status says enough without it."""
    found = b""
    with suppress(OSError, HTTPError, EOFError, zlib.error, Transient, FetchError):
        while len(found) < EXCERPT:
            found += next(parts, b"") or b"\n" * EXCERPT
    return found[:EXCERPT]


def refusal(request: requests.PreparedRequest, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """Turn an error status into what it means: try again, or change something first."""
    told = provider_message(body)
    text = f"{shown(request.url)} answered {status}" + (f" ({told})" if told else "")
    plan_limit = status == 402 and "not allowed in this plan" in told
    if status in (408, 425, 429) or status >= 500 or (status == 402 and not plan_limit):
        return Transient(text, status, retry_after(headers))
    step = "check the API key and the plan" if status in (401, 402, 403) else "check the address and the settings"
    return FetchError(f"{text}: {step}", permanent=True, status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for, given as seconds or as a date; None when absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), LONGEST_WAIT)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def provider_message(body: bytes) -> str:
    """Find the text in any of the providers' error envelopes; one bounded line, empty when there is none."""
    try:
        found = next(texts(json.loads(body)), "")
    except (ValueError, RecursionError):
        return ""
    return printable(found)[:200]


def texts(value: Any) -> Iterator[str]:
    """The texts under `error` and `error_message`, however the envelope is nested."""
    for name in ("error_message", "error", "status"):
        found = value.get(name) if isinstance(value, dict) else None
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            yield from texts(found)


def printable(text: str) -> str:
    """A text as one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shown(url: str | None) -> str:
    """An address as a message names it: without the query, which some providers use for keys, and without a password."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return "the address"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")[:300]


def bytes_shown(size: int) -> str:
    """A size as a message names it."""
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"


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
