"""`alchemy row|bulk FILE.csv|ADDRESS`: SQLAlchemy async, a model, an upsert of each record in turn, or of a thousand in one statement."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.peers.records import BATCH, COLUMNS, read


class Base(DeclarativeBase):
    """The models."""


class Peer(Base):
    """A record."""

    __tablename__ = "peer"
    id: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str]
    name: Mapped[str]
    price: Mapped[Decimal]
    market_cap: Mapped[Decimal]
    volume_24h: Mapped[Decimal]
    percent_change_24h: Mapped[str]
    rank: Mapped[int]
    last_updated: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    category: Mapped[str]


async def store(records: list[dict[str, Any]], size: int) -> None:
    """Upsert so many records a statement; commit every thousand records."""
    dsn = os.environ["DATABASE_URL"]
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn))
    async with async_sessionmaker(engine)() as session:
        for first in range(0, len(records), size):
            statement = insert(Peer).values(records[first : first + size])
            changed = {name: statement.excluded[name] for name in COLUMNS[1:]}
            await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed))
            if (first + size) % BATCH == 0:
                await session.commit()
        await session.commit()
    await engine.dispose()


asyncio.run(store(read(sys.argv[2]), 1 if sys.argv[1] == "row" else BATCH))
