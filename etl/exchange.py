"""One exchange with an upstream: a request out, a complete answer in, within every bound; or why there was none."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import requests
from urllib3.exceptions import HTTPError

from etl.body import Bounds, body_parts, read_excerpt
from etl.connection import Line, LineAdapter
from etl.errors import FetchError, Transient
from etl.patience import Patience, Waits
from etl.refusal import refusal, wrong_kind
from etl.source import Response
from etl.unanswered import connection_failure
from shared.addresses import shown

LAST_CHANCE = 15.0
"""Seconds that a request gets when failures have used up the budget: the next host may be a better one."""
CONDITIONS = ("If-None-Match", "If-Modified-Since")
UNFIT = "cannot be asked: check the address, and the API key for characters that no request may hold"


@dataclass(slots=True)
class Client:
    """What the requests of one source and one run share: connections to any address and to public ones, and the time left to lose."""

    waits: Waits
    patience: Patience
    session: requests.Session = field(default_factory=requests.Session)
    line: Line = field(default_factory=Line)
    left: float = 0.0
    trusted: LineAdapter = field(init=False)
    public: LineAdapter = field(init=False)

    def __post_init__(self) -> None:
        self.session.headers.update({"User-Agent": f"kasparro-etl/{version('kasparro-etl')}", "Accept-Encoding": "gzip"})
        self.trusted, self.public = LineAdapter(self.line, public=False), LineAdapter(self.line, public=True)
        self.left = self.patience.budget


def send(client: Client, adapter: LineAdapter, request: requests.PreparedRequest) -> tuple[Response | None, str]:
    """Make one exchange: a complete response, or the address it redirects to. Raises Transient, FetchError or Inside."""
    url, patience, line = str(request.url), client.patience, client.line
    begun, seconds = time.monotonic(), min(patience.response, max(client.left, LAST_CHANCE))
    try:
        with line.within(min(patience.connect + patience.silence, seconds)):
            answer = ask(client, adapter, request)
        if line.late:  # a head that was cut is taken for one that ended
            answer.close()
            raise TimeoutError
        with answer, line.within(max(0.0, begun + seconds - time.monotonic())):
            if location := client.session.get_redirect_target(answer):
                return None, location
            response = receive(client, request, answer, begun + seconds)
        if line.late:  # and so is a body without a length
            raise TimeoutError
        return response, ""
    except zlib.error as error:
        raise Transient(f"{shown(url)} answered with a broken gzip body") from error
    except EOFError as error:
        raise Transient(f"{shown(url)} answered with a gzip body that was cut short") from error
    except ValueError as error:
        raise FetchError(f"{shown(url)} {UNFIT}", permanent=True) from error
    except (OSError, HTTPError) as error:
        raise Transient(f"{shown(url)} {'was not read in time' if line.late else connection_failure(error)}") from error
    finally:
        line.let_go()


def ask(client: Client, adapter: LineAdapter, request: requests.PreparedRequest) -> requests.Response:
    """Send a request and read the head of the answer."""
    around = client.session.merge_environment_settings(str(request.url), {}, True, None, None)
    patient = (client.patience.connect, client.patience.silence)
    # quirk: `session.send` reads the body of a redirect to its end, without a bound, even when it may not follow
    with client.waits.listening():
        return adapter.send(request, True, patient, around["verify"] or True, around["cert"], around["proxies"])


def receive(client: Client, request: requests.PreparedRequest, answer: requests.Response, deadline: float) -> Response:
    """Read the body of an answer that is what was asked for. Raises what `refusal` makes of one that is not."""
    url, patience = str(request.url), client.patience
    headers = {name.lower(): value for name, value in answer.headers.items()}
    bounds = Bounds(patience.body, deadline, patience.grace, patience.slowest)
    parts = body_parts(partial(read, answer, client.waits), headers.get("content-encoding", ""), url, bounds)
    unasked = answer.status_code == 304 and not any(name in request.headers for name in CONDITIONS)
    if answer.status_code not in (200, 304) or unasked:
        raise refusal(url, answer.status_code, headers, read_excerpt(parts))
    if answer.status_code == 200 and (problem := wrong_kind(request.headers.get("Accept", ""), headers.get("content-type", ""))):
        raise FetchError(f"{shown(url)} answered with {problem}: try again later, or check the address")
    return Response(answer.status_code, b"".join(parts), headers, url)


def read(answer: requests.Response, waits: Waits, size: int) -> bytes:
    """Read what has come in of a body, at most `size` bytes."""
    with waits.listening():
        chunk: bytes = answer.raw.read1(size, decode_content=False)  # quirk: `read` waits until a chunk is full, however slowly it fills
    waits.beat()
    return chunk
