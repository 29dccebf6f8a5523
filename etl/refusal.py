"""What an error status means: try again and when, or change something first; in the provider's own words. Pure but for the clock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from etl.errors import FetchError, Transient
from shared.addresses import printable, shown

LONGEST_WAIT = 86_400.0
"""Seconds that `Retry-After` can ask for; what asks for more is not to be believed, and is asked again the next day."""
PRO = "https://pro-api.coingecko.com/api/v3"
STEPS = {
    10002: "set COINGECKO_API_KEY",
    10005: "this needs a larger CoinGecko plan",
    10010: f"the key is a Pro key: set COINGECKO_BASE_URL={PRO}",
    10011: "the key is a Demo key: unset COINGECKO_BASE_URL",
}
"""What CoinGecko's own error codes ask for (https://docs.coingecko.com, errors and rate limits)."""
JSON_KINDS = ("application/json", "text/json", "text/plain", "application/octet-stream", "")
"""What JSON comes as; files on plain web servers too."""


def refusal(url: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """Turn an error status into what it means: try again, or change something first."""
    told = provider_message(body)
    text = f"{shown(url)} answered {status}" + (f" ({told})" if told else "")
    plan_limit = "not allowed in this plan" in told
    if status in (408, 425, 429) or status >= 500 or (status == 402 and not plan_limit):
        return Transient(text, status, retry_after(headers))
    about_key = plan_limit or status in (401, 402, 403)
    usual = "check the API key and the plan" if about_key else "check the address and the settings"
    step = STEPS.get(provider_code(body), usual)
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


def wrong_kind(accept: str, content_type: str) -> str:
    """Name the kind of an answer where JSON alone was asked for and something else came, such as a block page; else empty."""
    kind = content_type.partition(";")[0].strip().lower()
    if accept != "application/json" or kind in JSON_KINDS or kind.endswith("+json"):
        return ""
    return f"{printable(kind)[:60]} instead of JSON"


def provider_message(body: bytes) -> str:
    """Find the text in any of the providers' error envelopes; one bounded line, empty when there is none."""
    return printable(next(texts(envelope(body)), ""))[:200]


def provider_code(body: bytes) -> int:
    """Find the error code in any of CoinGecko's error envelopes, 0 when there is none."""
    waiting = [envelope(body)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(found := value.get("error_code"), int):
                return found
            waiting += [value.get("status"), value.get("error")]
    return 0


def envelope(body: bytes) -> Any:
    """An error's body as JSON, None when it is something else."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def texts(value: Any) -> Iterator[str]:
    """The texts under `error` and `error_message`, however the envelope is nested."""
    for name in ("error_message", "error", "status"):
        found = value.get(name) if isinstance(value, dict) else None
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            yield from texts(found)
