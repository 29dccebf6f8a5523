"""The contract of a source: a few facts and a few functions, so that a new upstream is one file and one registry line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

from shared.model import RateLimit, SourceType
from shared.settings import Settings

Cursor = Mapping[str, Any]
"""A source's own position, as JSON: a page, a validator, an offset. Empty means: from the start."""

Amount = Decimal | str | None
"""A number on its way to Postgres `numeric`: every digit as upstream sent it, so never a float."""


@dataclass(frozen=True, slots=True)
class Response:
    """What an upstream answered: status (200 or 304), the whole body inflated, headers with lower-case names, final address."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    url: str


class Fetch(Protocol):
    """The only way out to the network. Raises FetchError when there is no complete 200 or 304."""

    def __call__(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        follow_redirects: bool = False,
    ) -> Response: ...


@dataclass(frozen=True, slots=True)
class Payload:
    """What upstream said in one breath: a response, a feed, a block of lines. Kept byte for byte.

    `meta` holds what `parse` needs besides the bytes (a file's header, a content type), as JSON.
    `cursor` is where the source stands once the payload is loaded.
    `done` and `total` tell how far the source is after this payload, in any unit (bytes, pages), 0 when unknown.
    `list_start` and `list_end` mark the first and the last payload of an upstream's list: `whole` when upstream has no more,
    `capped` when we asked for no more. A list that shrank, and an asset missing from whole lists, are told by them.
    `notes` are for the operator: what upstream looks like that a person should know.
    `head`: its records show what the upstream's records look like. Not so a later page or block, which goes on with a list.
    `loaded_at`: when the run began that loaded it last, None for one that is new.
    """

    body: bytes
    url: str
    cursor: Cursor
    fetched_at: datetime
    meta: Mapping[str, Any] = field(default_factory=dict)
    done: int = 0
    total: int = 0
    list_start: bool = False
    list_end: Literal["", "whole", "capped"] = ""
    notes: tuple[str, ...] = ()
    head: bool = True
    loaded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """A rename that was accepted: in a stream, what upstream calls `upstream` is `field`, which to us is `role`.

    `until` is when it was taken back; a stored payload that was loaded in between is read under it again.
    """

    stream: str
    upstream: str
    field: str
    role: str | None
    since: datetime | None = None
    until: datetime | None = None

    def counts(self, loaded_at: datetime | None) -> bool:
        """Whether it is in force for a payload that is new (None), or that a run of some time loaded."""
        return self.until is None or (self.since is not None and loaded_at is not None and self.since <= loaded_at < self.until)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What `parse` yields for a record that is there but cannot be taken apart; it ends in quarantine with this reason."""

    reason: str


class Row(NamedTuple):
    """One normalised record, in the order of the staging table's columns. A time given as text is ISO 8601 with its zone."""

    kind: Literal["asset", "article"]
    external_id: str
    symbol: str | None
    name: str
    category: str
    price_usd: Amount
    market_cap_usd: Amount
    volume_24h_usd: Amount
    percent_change_24h: Amount
    rank: int | str | None
    url: str | None
    tags: str | None
    source_updated_at: datetime | str | None


@dataclass(frozen=True, slots=True)
class Shape:
    """How drift sees a source whose records are no JSON objects, or that has several streams.

    `stream` names what sends records of one shape (a feed, files of one name), "" when the source has one only.
    `fields` gives a payload's first records under upstream's own names, with the id of each; by default the parsed values.
    `roles` tells what a payload's fields are to us; by default the record's model does. `required` are roles that every record needs.
    `rename` makes the source that reads renamed fields; by default parsed values are moved.
    """

    stream: Callable[[Payload], str] = lambda payload: ""
    fields: Callable[[Payload, Sequence[Any]], Iterable[tuple[str | None, Mapping[str, Any]]]] | None = None
    roles: Callable[[Payload], Mapping[str, str]] | None = None
    required: frozenset[str] = frozenset()
    rename: Callable[[Source, Sequence[Alias]], Source] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream. Pure but for `extract`, which goes to the network or the disk.

    `record` is what pydantic validates one parsed value against; anything else ends in quarantine.
    `parse` yields the values of a payload's records in order: a record's position is its place in that order.
    `identify` tells the external id of a parsed value that did not validate, None when it cannot.
    `excerpts` gives the bytes of the records at some positions as upstream sent them, in one pass over the payload.
    `shape` tells how drift sees the source.
    """

    name: str
    type: SourceType
    record: Any
    extract: Callable[[Settings, Fetch, Cursor], Iterator[Payload]]
    parse: Callable[[Payload], Iterator[Any]]
    normalize: Callable[[Any], Row]
    identify: Callable[[Any], str | None]
    excerpts: Callable[[Payload, Collection[int]], dict[int, bytes]]
    reads_from: Callable[[Settings], list[str]]
    rate_limit: Callable[[Settings], RateLimit | None]
    shape: Shape = Shape()
