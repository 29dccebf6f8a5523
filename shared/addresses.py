"""Addresses as messages, tables and logs may hold them. Pure."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit


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


def named(url: str) -> str:
    """An address as a table may hold it: `shown`, and a digest of what is left out, so that two addresses stay two."""
    parts = urlsplit(url)
    hidden = f"{parts.username}:{parts.password}?{parts.query}"
    return shown(url) if hidden == "None:None?" else f"{shown(url)}#{hashlib.sha256(hidden.encode()).hexdigest()[:12]}"
