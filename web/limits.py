"""API_RATE_LIMIT: how many requests a client may make, told by RateLimit headers (draft-ietf-httpapi-ratelimit-headers)."""

from __future__ import annotations

import math
from ipaddress import IPv6Address, ip_address

from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from shared.settings import Settings
from web.errors import Problem
from web.windows import Taken, Windows, take

EXEMPT = ("/health", "/metrics", "/observability/metrics")
"""Probes and scrapers are never refused."""
windows = Windows()
"""Made when gunicorn's configuration is read, so before the workers are forked."""


def install(app: Flask, settings: Settings) -> None:
    """Count requests when a limit is set, and tell clients behind trusted proxies apart."""
    if settings.api_trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.api_trusted_proxies, x_proto=0)  # type: ignore[method-assign]
    limit = settings.api_rate_limit
    if limit is None:
        return
    policy = f'"default";q={limit.calls};w={math.ceil(limit.seconds)}'

    def count() -> None:
        if request.path in EXEMPT or request.path.startswith(tuple(f"{path}/" for path in EXEMPT)):
            return
        g.taken = taken = take(windows, client_of(request.remote_addr or ""), limit.calls, limit.seconds)
        if not taken.allowed:
            wait = str(math.ceil(taken.seconds))
            raise Problem(429, "too many requests: wait as Retry-After says", headers={"Retry-After": wait})

    def tell(response: Response) -> Response:
        taken: Taken | None = g.get("taken")
        if taken:
            response.headers["RateLimit-Policy"] = policy
            response.headers["RateLimit"] = f'"default";r={taken.remaining};t={math.ceil(taken.seconds)}'
        return response

    app.before_request(count)
    app.after_request(tell)


def client_of(address: str) -> str:
    """Who is counted: an IPv4 address, or the /64 of an IPv6 one, which is what one client is given."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or found.exploded[:19])
    return str(found)
