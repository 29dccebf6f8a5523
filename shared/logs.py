"""Logs: structlog to stderr, for people on a terminal, one JSON object a line elsewhere; secrets are cut out of every value."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import structlog
from pydantic import SecretStr

from shared.settings import Settings
from shared.streams import unfailing

HIDDEN = "***"
FIRST = ("timestamp", "level", "event", "source", "run_id")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
encode = json.JSONEncoder(default=str).encode  # made once: json.dumps makes an encoder a call
PASSWORDS = (
    re.compile(r"^\w+://[^:@/]*:([^@]+)@"),
    re.compile(r"^https?://([^:@/?#]+)@"),
    re.compile(r"[?&](?:ssl)?password=([^&]+)"),
    re.compile(r"\b(?:ssl)?password\s*=\s*('(?:\\.|[^'\\])*'|(?:\\.|[^\s\\])+)"),
)


def configure(settings: Settings) -> None:
    """Set up logging for this process. Call once, before the first line is logged."""
    hide = redactor(settings)
    console = wants_console(settings)
    renderer: Any = structlog.processors.JSONRenderer(lambda event, **_options: encode(event))
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # before the secrets are cut out, which a renderer's own traceback would keep
            lambda _logger, _method, event: {key: redacted(value, hide) for key, value in ordered(event).items()},
            *([one_line_each] if console else []),
            renderer,
            *([clear_line] if console and sys.stderr.isatty() else []),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level)),
        logger_factory=structlog.WriteLoggerFactory(file=unfailing(sys.stderr)),  # a full disk under the logs stops no work
        cache_logger_on_first_use=False,
    )
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # its warnings show whole addresses, past this file


def one_line_each(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write control characters as escapes, so that no value breaks its line or paints the terminal; a traceback keeps its lines."""
    return {escaped(key, keep=""): escaped(value, keep="\n" if key == "exception" else "") for key, value in event.items()}


def escaped(value: Any, keep: str) -> Any:
    """A text without control characters but those to keep."""
    if not isinstance(value, str):
        return value
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), value)


def clear_line(_logger: Any, _method: str, line: Any) -> str:
    """Wipe what stands on the terminal's line, a progress bar perhaps, before the log's line."""
    return f"\r\033[2K{line}"


def ordered(event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The parts of a line: when and what first, the rest as it came."""
    return {**{key: event[key] for key in FIRST if key in event}, **event}


def wants_console(settings: Settings) -> bool:
    """Whether log lines are for a person: asked for, or a terminal is there."""
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())


def redactor(settings: Settings) -> Callable[[str], str]:
    """Make a function that replaces every secret of the settings, and the passwords inside their addresses, in a text."""
    given = dict(settings)
    whole = [value.get_secret_value() for value in given.values() if isinstance(value, SecretStr)]
    plain = [text for value in given.values() for text in (value if isinstance(value, tuple) else [value]) if isinstance(text, str)]
    paths = [urlsplit(value).path.strip("/") for value in whole if value.startswith(("http://", "https://"))]
    parts = [*(part for value in (*whole, *plain) for part in secret_parts(value)), *(path for path in paths if len(path) >= 8)]
    written = {form for text in (*whole, *parts) for form in (text, unquote(text), quote(text, safe=""), repr(text)[1:-1])}
    secrets = sorted((text for text in written if len(text) >= 4), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        return text

    return hide


def secret_parts(value: str) -> list[str]:
    """The passwords inside an address or a `key=value` text of Postgres, as written."""
    found = [match[1] for pattern in PASSWORDS for match in pattern.finditer(value)]
    return [part for text in found for part in (text, re.sub(r"\\(.)", r"\1", text.strip("'"))) if part]


def redacted(value: Any, hide: Callable[[str], str]) -> Any:
    """Hide secrets in a value however deep; what JSON has no form for becomes text."""
    if isinstance(value, str):
        return hide(value)
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, dict):
        return {hide(str(key)): redacted(item, hide) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, hide) for item in value]
    return hide(str(value))
