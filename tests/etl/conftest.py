"""A small source for tests of the loop: JSON arrays of `{id, name, price, at}`, given as bodies instead of fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from etl.chaos import Chaos
from etl.execute import run
from etl.json_array import NonNegative, Stamp, excerpts, identify, parse
from etl.source import Cursor, Fetch, Payload, Row, Source
from etl.stop import Stop
from etl.work import Options, Outcome, Progress, Work
from shared.db import Connection, Link, linked
from shared.settings import Settings, read_settings


class Coin(BaseModel):
    """What the small source relies on."""

    id: str
    name: str = "n"
    price: NonNegative = None
    at: Stamp = None
    tags: str | None = None


def normalize(coin: Coin) -> Row:
    return Row("asset", coin.id, None, coin.name, "test", coin.price, None, None, None, None, None, coin.tags, coin.at)


@dataclass
class World:
    """The source's state and one run after the other over it."""

    conn: Connection
    link: Link
    bodies: list[Any] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    batch_size: int = 100
    cursors: list[Cursor] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)
    seen: list[Progress] = field(default_factory=list)

    def extract(self, settings: Settings, fetch: Fetch, cursor: Cursor) -> Iterator[Payload]:
        self.cursors.append(dict(cursor))
        for number in range(cursor.get("next", 0), len(self.bodies)):
            body = self.bodies[number]
            if isinstance(body, Exception):
                raise body
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            yield Payload(data, f"test:{number}", {"next": number + 1}, datetime(2026, 1, 1, tzinfo=UTC), {"number": number})

    @property
    def source(self) -> Source:
        return Source("test", "api", Coin, self.extract, parse, normalize, identify, excerpts, lambda _: ["test"], lambda _: None)

    def run(self, **options: Any) -> Outcome:
        told = Options(**{"batch_size": self.batch_size, **options})
        work = Work(self.link, self.source, read_settings(self.environ), told, self.stop, self.seen.append, lambda text: text, Chaos())
        return run(work)

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.conn.execute(query.encode(), params).fetchall()]

    def again(self) -> None:
        """Upstream says all of it again."""
        self.conn.execute("update etl_checkpoints set position = '{}'")


@pytest.fixture
def world(conn: Connection, dsn: str) -> Iterator[World]:
    with linked(dsn, "world") as link:
        yield World(conn, link)


@pytest.fixture
def coins() -> Callable[..., list[dict[str, Any]]]:
    """Make `count` coins from `first` on, all with the price given."""
    return lambda count, first=0, price=1.5: [{"id": f"c{n:04}", "name": f"Coin {n}", "price": price} for n in range(first, first + count)]
