"""Logs: structlog to stderr, for people on a terminal, one JSON object a line elsewhere; secrets are cut out of every value."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr

from shared.settings import Settings

HIDDEN = "***"


def configure(settings: Settings) -> None:
    """Set up logging for this process. Call once, before the first line is logged."""
    hide = redactor(settings)
    console = wants_console(settings)
    renderer: Any = structlog.dev.ConsoleRenderer(colors=False) if console else structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if console else [structlog.processors.format_exc_info]),
            lambda _logger, _method, event: {key: redacted(value, hide) for key, value in event.items()},
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level)),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def wants_console(settings: Settings) -> bool:
    """Whether log lines are for a person: asked for, or a terminal is there."""
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())


def redactor(settings: Settings) -> Callable[[str], str]:
    """Make a function that replaces every secret of the settings, and the passwords inside their addresses, in a text."""
    whole = [value.get_secret_value() for value in dict(settings).values() if isinstance(value, SecretStr)]
    parts = [part for value in whole for part in secret_parts(value)]
    secrets = sorted({text for text in (*whole, *parts) if len(text) >= 4}, key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        return text

    return hide


def secret_parts(value: str) -> list[str]:
    """The password inside an address, as written and decoded."""
    try:
        password = urlsplit(value).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def redacted(value: Any, hide: Callable[[str], str]) -> Any:
    """Hide secrets in a value however deep."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, dict):
        return {key: redacted(item, hide) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, hide) for item in value]
    return value if isinstance(value, int | float | bool | type(None)) else hide(str(value))
