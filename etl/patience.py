"""How patient a fetch is, and how it waits; apart from the fetch, so that who only names them does not import the network's libraries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upstream is waited for: seconds, tries, bytes a second, and the bytes a body may have once inflated.

    `budget` is what all failed tries of a run and the pauses after them may take together.
    """

    connect: float = 5.0
    silence: float = 30.0
    response: float = 120.0
    grace: float = 20.0
    slowest: int = 1024
    tries: int = 4
    longest_delay: float = 30.0
    budget: float = 300.0
    body: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Waits:
    """How a fetch waits: `pause` sleeps and may raise Stopped; `throttle` says how long until the rate limit has room, 0 when it has.

    `beat` is called while a body comes in, so that a long one does not look like a dead process;
    within `listening` a request to stop may end the exchange by raising Stopped.
    `allowed` are the hosts inside this network that a redirect may lead to.
    """

    pause: Callable[[float], None]
    throttle: Callable[[], float]
    beat: Callable[[], None] = lambda: None
    listening: Callable[[], AbstractContextManager[None]] = nullcontext
    allowed: frozenset[str] = frozenset()
