"""Addresses: how a message shows one, where a redirect leads, whether a host is inside this network."""

from __future__ import annotations

import socket
from urllib.parse import urljoin, urlsplit

from etl.connection import is_private
from etl.errors import FetchError
from shared.addresses import shown


def location_of(url: str, location: str) -> str:
    """The address a redirect names, completed. Raises FetchError when it is none."""
    try:
        return urlsplit(urljoin(url, location))._replace(fragment="").geturl()
    except ValueError:
        raise FetchError(f"{shown(url)} redirects to what is not an address: remove or replace it", permanent=True) from None


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
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return False
    return any(is_private(text) for text in found)


def bytes_shown(size: int) -> str:
    """A size as a message names it."""
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
