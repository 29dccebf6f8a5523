"""What an error status means: try again and when, or change something first; in the provider's own words. Pure but for the clock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from etl.errors import FetchError, Transient
from shared.addresses import printable, shown

LONGEST_WAIT = 1e9


def refusal(url: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """Turn an error status into what it means: try again, or change something first."""
    told = provider_message(body)
    text = f"{shown(url)} answered {status}" + (f" ({told})" if told else "")
    plan_limit = status == 402 and "not allowed in this plan" in told
    if status in (408, 425, 429) or status >= 500 or (status == 402 and not plan_limit):
        return Transient(text, status, retry_after(headers))
    step = "check the API key and the plan" if status in (401, 402, 403) else "check the address and the settings"
    return FetchError(f"{text}: {step}", permanent=True, status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for, given as seconds or as a date; None when absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), LONGEST_WAIT)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def provider_message(body: bytes) -> str:
    """Find the text in any of the providers' error envelopes; one bounded line, empty when there is none."""
    try:
        found = next(texts(json.loads(body)), "")
    except (ValueError, RecursionError):
        return ""
    return printable(found)[:200]


def texts(value: Any) -> Iterator[str]:
    """The texts under `error` and `error_message`, however the envelope is nested."""
    for name in ("error_message", "error", "status"):
        found = value.get(name) if isinstance(value, dict) else None
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            yield from texts(found)
