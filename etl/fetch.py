"""The only way out to the network: whole responses or a FetchError; retries what is transient, waits as it is told to."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin, urlsplit

import backoff
import requests
import structlog

from etl.errors import FetchError
from etl.source import Fetch, Response

log = structlog.get_logger()

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 3
CHUNK = 65536


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
        request = session.prepare_request(requests.Request("GET", url, headers=dict(headers or {}), params=dict(params or {})))
        return with_retries(lambda: follow(session, request, waits, patience, MOST_REDIRECTS if follow_redirects else 0), waits, patience)

    return fetch


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
                raise FetchError(f"{failure}, {tried} tries: {when(failure.after)}", status=failure.status) from failure
            log.info("request retried", reason=str(failure), attempt=tried, delay_seconds=round(delay, 2))
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
    """Send one request, and the redirects it is allowed, each within the rate limit. Our headers never go to another host."""
    while True:
        while (wait := waits.throttle()) > 0:
            waits.pause(wait)
        answer, location = send(session, request, patience)
        if answer:
            return answer
        if redirects == 0:
            raise FetchError(f"{shown(request)} redirects to {location}: put the final address into the settings", permanent=True)
        redirects -= 1
        target = urljoin(str(request.url), location)
        if urlsplit(target).scheme not in ("http", "https"):
            raise FetchError(
                f"{shown(request)} redirects to {target}, which is not http or https: remove or replace the address", permanent=True
            )
        same_host = urlsplit(target).netloc == urlsplit(str(request.url)).netloc
        request = session.prepare_request(requests.Request("GET", target, headers=dict(request.headers) if same_host else {}))


def send(session: requests.Session, request: requests.PreparedRequest, patience: Patience) -> tuple[Response | None, str]:
    """Make one exchange: a complete response, or the address it redirects to. Raises Transient or FetchError."""
    try:
        with session.send(request, stream=True, timeout=(patience.connect, patience.silence), allow_redirects=False) as answer:
            if answer.status_code in REDIRECTS:
                return None, answer.headers.get("Location", "")
            body = read_body(answer, request, patience)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Transient(f"{shown(request)} {connection_failure(error)}") from error
    except requests.RequestException as error:
        raise FetchError(f"{shown(request)} cannot be asked: {type(error).__name__}: check the address", permanent=True) from error
    headers = {name.lower(): value for name, value in answer.headers.items()}
    if answer.status_code in (200, 304):
        return Response(answer.status_code, body, headers, str(request.url)), ""
    raise refusal(request, answer.status_code, headers, body)


def read_body(answer: requests.Response, request: requests.PreparedRequest, patience: Patience) -> bytes:
    """Read the whole body, inflated, within the bounds of size and time; a body cut short is transient."""
    inflater = zlib.decompressobj(wbits=31) if answer.headers.get("Content-Encoding", "").lower() == "gzip" else None
    deadline, parts, size = time.monotonic() + patience.response, [], 0
    try:
        for chunk in answer.raw.stream(CHUNK, decode_content=False):
            part = inflater.decompress(chunk, patience.body + 1 - size) if inflater else chunk
            size += len(part)
            parts.append(part)
            if size > patience.body:
                raise FetchError(
                    f"{shown(request)} answered with more than {patience.body >> 20} MiB: this is not a list we know", permanent=True
                )
            if time.monotonic() > deadline:
                raise Transient(f"{shown(request)} was not read within {patience.response:g} s")
    except zlib.error as error:
        raise Transient(f"{shown(request)} answered with a broken gzip body") from error
    except (OSError, requests.packages.urllib3.exceptions.HTTPError) as error:  # type: ignore[attr-defined]
        raise Transient(f"{shown(request)} {connection_failure(error)}") from error
    if inflater and size and not inflater.eof:
        raise Transient(f"{shown(request)} answered with a gzip body that was cut short")
    return b"".join(parts)


def refusal(request: requests.PreparedRequest, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """Turn an error status into what it means: try again, or change something first."""
    told = provider_message(body)
    text = f"{shown(request)} answered {status}" + (f" ({told})" if told else "")
    plan_limit = status == 402 and "not allowed in this plan" in told
    if status in (408, 425, 429) or status >= 500 or (status == 402 and not plan_limit):
        return Transient(text, status, retry_after(headers))
    step = "check the API key and the plan" if status in (401, 402, 403) else "check the address and the settings"
    return FetchError(f"{text}: {step}", permanent=True, status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for, given as seconds or as a date; None when absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def provider_message(body: bytes) -> str:
    """Find the text in any of the providers' error envelopes; one bounded line, empty when there is none."""
    try:
        found = next(texts(json.loads(body[:10_000])), "")
    except (ValueError, RecursionError):
        return ""
    return " ".join("".join(c for c in found if c.isprintable()).split())[:200]


def texts(value: Any) -> Iterator[str]:
    """The texts under `error` and `error_message`, however the envelope is nested."""
    for name in ("error_message", "error", "status"):
        found = value.get(name) if isinstance(value, dict) else None
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            yield from texts(found)


def shown(request: requests.PreparedRequest) -> str:
    """The request as a message names it: without the query, which some providers use for keys, and without a password."""
    url = urlsplit(str(request.url))
    return f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"


def connection_failure(error: BaseException) -> str:
    """Say in words why there was no answer."""
    text = str(error)
    if "NameResolutionError" in text or "Name or service" in text or "getaddrinfo" in text:
        return "cannot be reached: its name does not resolve"
    if "refused" in text:
        return "cannot be reached: connection refused"
    if isinstance(error, requests.exceptions.SSLError) or "certificate" in text:
        return "cannot be trusted: its certificate is not valid"
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return "did not answer in time"
    return "broke off in the middle of the answer" if "read" in text or "reset" in text or "Incomplete" in text else "cannot be reached"
