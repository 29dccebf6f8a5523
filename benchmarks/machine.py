"""What the figures were measured on: the machine and the versions."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.environments import PEERS, list_pinned
from shared.db import connect

OURS = ("kasparro-etl", "flask", "gunicorn", "psycopg", "pydantic")
THEIRS = ("fastapi", "uvicorn", "sqlalchemy", "asyncpg", "pydantic")


def describe(dsn: str) -> dict[str, str]:
    """Facts by name."""
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    with connect(dsn, "benchmark") as conn:
        row = conn.execute("select current_setting('server_version') as server, current_setting('shared_buffers') as buffers").fetchone()
    assert row
    pinned = dict(line.lower().split("==") for line in (PEERS / "requirements.txt").read_text().split())
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, {processor[1] if processor else platform.machine()}, {held:.0f} GB, {platform.system()}",
        "load before": f"{os.getloadavg()[0]:.1f} processes on average in the last minute",
        "Python": platform.python_version(),
        "Postgres": f"{row['server']}, embedded, shared_buffers {row['buffers']}, max_wal_size 8GB, otherwise as `make run` has it",
        "ours": ", ".join(f"{name} {version(name)}" for name in OURS),
        "peers": ", ".join(f"{name} {number}" for name, number in ({name: pinned[name] for name in THEIRS} | list_pinned()).items()),
    }
