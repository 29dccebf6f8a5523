"""Why there was no answer, in words: found by the kinds of an error's causes, because their texts repeat the address. Pure."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator

import requests
from urllib3.exceptions import NameResolutionError, ProtocolError, ReadTimeoutError

FAILURES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((NameResolutionError, socket.gaierror), "cannot be reached: its name does not resolve"),
    ((ConnectionRefusedError,), "cannot be reached: connection refused"),
    ((ssl.SSLCertVerificationError,), "cannot be trusted: its certificate is not valid"),
    ((TimeoutError, ReadTimeoutError, requests.Timeout), "did not answer in time"),
    ((ssl.SSLError,), "cannot be reached: no secure connection could be made"),
    ((ConnectionResetError, BrokenPipeError, http.client.HTTPException), "broke off in the middle of the answer"),
    ((ProtocolError,), "broke off in the middle of the answer"),
)


def connection_failure(error: BaseException) -> str:
    """Say why there was no answer."""
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
