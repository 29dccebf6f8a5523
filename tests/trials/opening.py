"""Where trials with real processes happen: a server of their own, upstreams on loopback, a migrated database to copy."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared import embedded
from shared.db import connect
from shared.migrations import migrate
from tests.trials import outages
from tests.trials.stage import Stage
from tests.trials.world import World, serve_upstreams


@contextmanager
def opened_stage(seed: int, *, full: bool = False) -> Iterator[tuple[Stage, embedded.Server]]:
    """Open a stage and its server for the length of a block; every process that was started ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="kasparro-real-", dir=next((d for d in ["/dev/shm"] if os.access(d, os.W_OK)), None)))
    folder.chmod(0o711)
    upstreams_pid, upstreams = serve_upstreams()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stage = Stage(World("", upstreams, folder / "files"), folder / "home", folder, random.Random(seed), full, {upstreams_pid})
    try:
        (folder / "files").mkdir()
        server = embedded.start(stage.home, settings=outages.SETTINGS)
        try:
            stage.world = World(server.dsn, upstreams, folder / "files")
            with connect(server.dsn, "trials") as conn:
                conn.execute(b"create database blank")
            with connect(server.dsn.replace("/kasparro?", "/blank?"), "trials") as conn:
                migrate(conn)
            yield stage, server
        finally:
            stage.end_children()
            embedded.stop(server)
    finally:
        stage.end_children()
        shutil.rmtree(folder, ignore_errors=True)
