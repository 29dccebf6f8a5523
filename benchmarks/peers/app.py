"""The peers of `GET /data`: FastAPI over SQLAlchemy async and pydantic, as usual and without its count, and FastAPI tuned on bare asyncpg.

All read the table of the product with its indexes, ask for the same page in the same order and answer with the same members.
They keep no access log, validate less, and send neither ETag nor cursor.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ARRAY, BigInteger, Numeric, Select, String, Text, func, literal_column, select
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DSN = os.environ["DATABASE_URL"]
engine = create_async_engine(
    "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(DSN), pool_size=16, max_overflow=0, pool_timeout=300
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
pools: list[Any] = []


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Keep a pool for the tuned peer."""
    pools.append(await asyncpg.create_pool(DSN, min_size=4, max_size=10))
    yield


app = FastAPI(lifespan=lifespan)


class Base(DeclarativeBase):
    """SQLAlchemy's own."""


class Record(Base):
    """A row of the product's table."""

    __tablename__ = "unified_data"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    source: Mapped[str]
    source_type: Mapped[str]
    external_id: Mapped[str]
    kind: Mapped[str]
    asset_id: Mapped[str | None]
    symbol: Mapped[str | None]
    name: Mapped[str] = mapped_column(String)
    category: Mapped[str]
    price_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    market_cap_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    volume_24h_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    percent_change_24h: Mapped[Decimal | None] = mapped_column(Numeric)
    rank: Mapped[int | None]
    url: Mapped[str | None]
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    source_updated_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    first_seen_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    status: Mapped[str]


class RecordOut(BaseModel):
    """A record as it is answered."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    source: str
    source_type: str
    external_id: str
    kind: str
    asset_id: str | None
    symbol: str | None
    name: str
    category: str
    price_usd: Decimal | None
    market_cap_usd: Decimal | None
    volume_24h_usd: Decimal | None
    percent_change_24h: Decimal | None
    rank: int | None
    url: str | None
    tags: list[str] | None
    source_updated_at: datetime | None
    first_seen_at: datetime
    updated_at: datetime
    status: str


class PageOut(BaseModel):
    """A page of them."""

    limit: int
    offset: int
    total: int | None
    data: list[RecordOut]


async def session() -> AsyncIterator[AsyncSession]:
    """A session a request."""
    async with sessions() as opened:
        yield opened


# The same text the product's index is over, so that the peers' searches are served by it too.
WORDS = literal_column(r"(E'\n' || coalesce(symbol, '') || E'\n' || name || E'\n')")


def filtered(found: Select[Any], source: str | None, symbol: str | None, q: str | None, min_price: Decimal | None) -> Select[Any]:
    """The filters that are given."""
    if source:
        found = found.where(Record.source == source)
    if symbol:
        found = found.where(func.upper(Record.symbol) == symbol.upper())
    if q:
        found = found.where(WORDS.ilike(f"%{q}%"))
    if min_price is not None:
        found = found.where(Record.price_usd >= min_price)
    return found


@app.get("/orm/data")
async def read_orm(
    db: Annotated[AsyncSession, Depends(session)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
    source: str | None = None,
    symbol: str | None = None,
    q: str | None = None,
    min_price: Decimal | None = None,
    sort: str = "id",
    count: bool = False,
) -> PageOut:
    """A page through the ORM and pydantic; with `count`, the total as usual: by counting."""
    given = (source or None, symbol or None, q or None, min_price)
    key = getattr(Record, sort.lstrip("-"))
    order = (key.desc(), Record.id.desc()) if sort.startswith("-") else (key,) if sort == "id" else (key, Record.id)
    total = await db.scalar(filtered(select(func.count()).select_from(Record), *given)) if count else None
    found = await db.scalars(filtered(select(Record), *given).order_by(*order).limit(limit).offset(offset))
    return PageOut(limit=limit, offset=offset, total=total, data=[RecordOut.model_validate(record) for record in found])


COLUMNS = ", ".join(RecordOut.model_fields)
PAGE = f"""
select coalesce(string_agg(row_to_json(d)::text, ','), '')
from (select {COLUMNS} from unified_data order by id limit $1 offset $2) d
"""


@app.get("/tuned/data")
async def read_tuned(limit: Annotated[int, Query(ge=1, le=1000)] = 100, offset: Annotated[int, Query(ge=0)] = 0) -> Response:
    """A page as JSON from Postgres, not counted."""
    body = await pools[0].fetchval(PAGE, limit, offset)
    return Response(f'{{"limit":{limit},"offset":{offset},"data":[{body}]}}', media_type="application/json")
