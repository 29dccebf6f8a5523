"""The API key: compared in constant time, and the guesses of one client are bounded."""

from __future__ import annotations

import hmac
from hashlib import sha256
from math import ceil

import structlog
from flask import request

from web.errors import Problem
from web.limits import client_of, windows
from web.state import state
from web.windows import take

log = structlog.get_logger()

HEADER = "X-API-Key"
UNAUTHORIZED = {"WWW-Authenticate": 'Bearer realm="kasparro-etl"'}
GUESSES = 10
PERIOD = 60.0
"""A client may send so many wrong keys in so many seconds, to all workers of a machine together."""


def require_key() -> None:
    """Let only a request with the key pass. Raises Problem: 403 without a key in the settings, 401 for a wrong one, 429 for too many.

    A browser asks by OPTIONS, without the key, whether it may send it.
    """
    if request.method == "OPTIONS":
        return
    key = state().settings.api_key
    if key is None:
        raise Problem(403, "queuing runs is switched off here: set API_KEY on the server")
    client = f"key {client_of(request.remote_addr or '')}"
    blocked = take(windows, client, GUESSES, PERIOD, count=False)
    if not blocked.allowed:  # before the key is looked at: who is blocked learns nothing from the right one either
        raise Problem(429, "too many wrong keys: wait as Retry-After says", headers={"Retry-After": str(ceil(blocked.seconds))})
    if not is_right(given_keys(), key.get_secret_value()):
        if take(windows, client, GUESSES, PERIOD).remaining == 0:
            log.warning("guesses blocked", client=request.remote_addr, failures=GUESSES, seconds=PERIOD)
        raise Problem(401, f"send the API key in {HEADER} or as Authorization: Bearer", headers=UNAUTHORIZED)


def given_keys() -> list[bytes]:
    """Every key that the headers give: repeated headers and both kinds count as many."""
    parts = [header.partition(" ") for header in request.headers.getlist("Authorization")]
    bearer = [key for scheme, _, key in parts if scheme.lower() == "bearer"]
    return [key.strip().encode("latin-1") for key in (*request.headers.getlist(HEADER), *bearer)]


def is_right(given: list[bytes], key: str) -> bool:
    """Whether exactly one key is given and it is ours, in a time that tells nothing: digests of one length are compared, always once."""
    same = hmac.compare_digest(sha256(b"\n".join(given)).digest(), sha256(key.encode()).digest())
    return same and len(given) == 1
