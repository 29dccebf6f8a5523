"""How gunicorn serves the API: where it listens, its workers, what it does before the first and after the last of them."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import structlog

from shared import embedded
from shared.db import connect
from shared.errors import KasparroError, SettingsError
from shared.logs import configure
from shared.migrations import migrate
from shared.settings import Settings, read_settings
from web import shares
from web.server_log import LOGGING, Logger
from web.worker import Worker

log = structlog.get_logger()


def given_settings() -> Settings:
    """Read the settings, or end with a line for each that is unusable."""
    try:
        return read_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


settings = given_settings()
configure(settings)
counters = Path(tempfile.mkdtemp(prefix="kasparro-metrics-"))
"""Where the workers keep what they count; gone with the server."""
opened = ExitStack()
master = os.getpid()


@atexit.register
def leave() -> None:
    """Give the embedded database up and remove the counters, after a crash too. A worker inherits this and only closes its copy."""
    opened.close()
    if os.getpid() == master:
        shutil.rmtree(counters, ignore_errors=True)


bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
worker_class = Worker
workers = 2
threads = 8
timeout = 30
graceful_timeout = 10
limit_request_line = 8190
forwarded_allow_ips = ""  # by default a client on this machine may say by headers named SCRIPT_NAME and PATH_INFO what it asks for
accesslog = None
logger_class, logconfig_dict = Logger, LOGGING
control_socket_disable = True
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={counters}"]


def on_starting(_server: Any) -> None:
    """Have the embedded database at hand and migrated for as long as the server lives, when no other is named."""
    if settings.api_database_url or settings.database_url:
        return
    try:
        with connect(opened.enter_context(embedded.serve(settings.home)), "kasparro-api") as conn:
            migrate(conn)
    except KasparroError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(4)


def when_ready(server: Any) -> None:
    """Say where the server listens."""
    log.info("api started", addresses=[str(listener) for listener in server.LISTENERS], workers=workers, threads=threads)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker its place among the others."""
    worker.place = shares.enter(other.place for other in server.WORKERS.values())


def child_exit(_server: Any, worker: Any) -> None:
    """Drop the gauges of a worker that is gone; what it counted stays counted. (The library's own way would import it too early.)"""
    shares.leave(worker.place)
    for file in counters.glob(f"gauge_*_{worker.pid}.db"):
        with suppress(FileNotFoundError):
            file.unlink()
