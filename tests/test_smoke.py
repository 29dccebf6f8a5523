"""The smoke test passes against a served installation, and fails where something is amiss."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@contextmanager
def running(*command: str, cwd: Path, env: dict[str, str]) -> Iterator[None]:
    """A process for the length of a block, its output in a file."""
    with (
        (cwd / f"{Path(command[0]).name}.log").open("w") as log,
        subprocess.Popen(command, cwd=cwd, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def environment(dsn: str, offline: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """What every process of the installation is told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"DATABASE_URL": dsn, "PORT": port, "API_KEY": "smoke-key", "CSV_PATHS": str(ROOT / "data" / "*.csv")}
    return {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), **offline, **told}


def smoke(env: dict[str, str], cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the smoke test as a person does."""
    url = f"http://127.0.0.1:{env['PORT']}/"
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "smoke.py"), url, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )


def test_a_served_installation_passes(environment: dict[str, str], etl: Any, tmp_path: Path) -> None:
    assert etl("run", "--source", "all", **environment).code == 0
    (tmp_path / "key").write_text("smoke-key\n")
    with (
        running(str(BIN / "gunicorn"), "-c", "python:web.gunicorn_conf", "web.wsgi:app", cwd=tmp_path, env=environment),
        running(str(BIN / "kasparro-etl"), "worker", cwd=tmp_path, env=environment),
    ):
        done = smoke(environment, tmp_path, "--api-key-file", "key", "--etl", "")
        bare = smoke(environment, tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "all passed"
    assert "not asked" not in done.stdout
    assert bare.returncode == 0, bare.stdout
    assert bare.stdout.count("not asked") == 2


def test_an_installation_without_data_fails(environment: dict[str, str], tmp_path: Path) -> None:
    with running(str(BIN / "gunicorn"), "-c", "python:web.gunicorn_conf", "web.wsgi:app", cwd=tmp_path, env=environment):
        done = smoke(environment, tmp_path, "--wait", "20")
    assert done.returncode == 1
    assert "never loaded: coinpaprika, coingecko, csv, rss" in done.stdout


def test_nobody_there_is_a_failure(environment: dict[str, str], tmp_path: Path) -> None:
    done = smoke(environment, tmp_path, "--wait", "0")
    assert done.returncode == 1
    assert "no answer at /health/ready" in done.stdout
