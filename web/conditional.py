"""Answers that stand as long as the version of the data: kept in the process, named by an ETag, and 304 to who has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

from flask import Request, Response, current_app

from web.access import latency_ms, request_id, this_request
from web.cache import Cache, cached
from web.catalog import Catalog, Watch, current, version_of
from web.db import Reader
from web.endpoints import JSON, Ready
from web.state import state

BYTES = 32 * 1024 * 1024
VERSION = version("kasparro-etl")


@dataclass(frozen=True, slots=True)
class Body:
    """An answer but for its first two members, which are the request's own, and the address of the page that follows."""

    rest: bytes
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: the way to the database, the newest catalog, the answers made under it."""

    reader: Reader
    watch: Watch
    cache: Cache


def held() -> Held:
    """What the app that serves this request holds; made on its first request."""
    made = current_app.extensions.get("kasparro.data")
    if made is None:
        reader = state().reader
        made = current_app.extensions.setdefault("kasparro.data", Held(reader, Watch(reader), Cache(BYTES)))
    found: Held = made
    return found


def conditional(source: str | None, source_type: str | None, make: Callable[[Catalog], Body]) -> Response:
    """Answer 304, from the cache, or with what `make` gives. The version is read first: an answer may be newer than it, never older."""
    asked, holds = this_request(), held()
    catalog = current(holds.watch)
    known = version_of(catalog, source, source_type)
    tag = etag(known, asked.path, asked.query_string)
    anything = asked.if_none_match.star_tag
    if not anything and known_already(asked, tag):
        return named(Ready(status=304), tag)

    def sized() -> tuple[Body, int]:
        body = make(catalog)
        return body, len(body.rest) + len(asked.query_string)

    body = cached(holds.cache, (asked.path, asked.query_string, known), sized)
    return named(Ready(status=304), tag) if anything else answered(body, tag)  # `*` is any answer that is there, so one has to be


def compared(body: Body) -> Response:
    """Answer with a body that no version stands for: its ETag is made of what it says."""
    asked = this_request()
    tag = etag(hashlib.blake2b(body.rest, digest_size=16).hexdigest(), asked.path, asked.query_string)
    return named(Ready(status=304), tag) if known_already(asked, tag) else answered(body, tag)


def known_already(asked: Request, tag: str) -> bool:
    """Whether the client has what this tag names."""
    return asked.if_none_match.contains_weak(tag)


def answered(body: Body, tag: str) -> Response:
    """Put an answer together: the request's own members, then what is everybody's."""
    own = f'{{"request_id":"{request_id()}","api_latency_ms":{latency_ms()},'.encode()
    response = named(Ready(own + body.rest, mimetype=JSON), tag)
    if body.next:
        response.headers.add("Link", f'<{body.next}>; rel="next"')
    return response


@lru_cache(maxsize=1000)
def etag(known: str, path: str, asked: bytes) -> str:
    """Name what an address answers under a version of the data and of the program."""
    told = b"\0".join((VERSION.encode(), known.encode(), path.encode(), asked))
    return hashlib.blake2b(told, digest_size=12).hexdigest()


def named(response: Response, tag: str) -> Response:
    """Put the ETag on, and that it has to be asked about each time."""
    response.headers.extend((("ETag", f'W/"{tag}"'), ("Cache-Control", "no-cache")))
    return response
