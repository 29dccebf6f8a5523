"""The vocabulary that both shells and the tables share: sources, run states, rate limits. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SourceName = Literal["coinpaprika", "coingecko", "csv", "rss"]
SourceType = Literal["api", "csv", "rss"]
Trigger = Literal["cli", "cron", "api", "backfill", "replay"]
RunStatus = Literal["queued", "running", "success", "partial", "failed", "refused", "cancelled", "abandoned"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `calls` requests in any `seconds` seconds."""

    calls: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.calls}/{self.seconds:g}"
