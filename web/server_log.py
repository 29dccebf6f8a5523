"""What gunicorn and other libraries log, as lines of our log."""

from __future__ import annotations

import logging
from typing import Any

import structlog
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]

log = structlog.get_logger()

EVENTS = {"gunicorn.error": "server reported"}


class Handler(logging.Handler):
    """Passes records of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one line, its traceback included."""
        facts: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        event = EVENTS.get(record.name, "library reported")
        log.log(record.levelno, event, message=record.getMessage(), logger=record.name, process=record.process, **facts)


class Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's log without its line a request, which it would put together only to drop it: web/access.py writes ours."""

    access_log_enabled = False


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"ours": {"class": "web.server_log.Handler"}},
    "root": {"level": "WARNING", "handlers": ["ours"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["ours"], "propagate": False},
        "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        "py.warnings": {"level": "WARNING", "handlers": ["ours"], "propagate": False},
    },
}
"""For gunicorn's `logconfig_dict`."""
