"""The smoke test passes against a served installation, and fails where something is amiss."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.smoke import Place, call

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


def test_sources_that_are_not_loaded_there_are_not_asked_for_and_a_limit_on_requests_is_waited_for(
    environment: dict[str, str], etl: Any, tmp_path: Path
) -> None:
    sources = "coinpaprika,coingecko,rss"
    assert etl("run", "--source", sources, **environment).code == 0
    limited = environment | {"API_RATE_LIMIT": "20/2"}
    with running(str(BIN / "gunicorn"), "-c", "python:web.gunicorn_conf", "web.wsgi:app", cwd=tmp_path, env=limited):
        done = smoke(limited, tmp_path, "--sources", sources)
    assert done.returncode == 0, done.stdout


def test_a_token_is_shown_with_every_request(upstream: Any) -> None:
    upstream.answers["/health"] = (200, {}, b"{}")
    place = Place(upstream.url, "", None, 0, "let-me-in", ("csv",))
    assert call(place, "/health").status == 200
    assert upstream.log[-1]["headers"]["authorization"] == "Bearer let-me-in"
    call(replace(place, token=""), "/health")
    assert "authorization" not in upstream.log[-1]["headers"]


def test_the_key_of_the_containers_here_is_shown_to_no_other_place(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\ncase "$*" in *port*) echo 127.0.0.1:8123;; *api_key*) echo the-key;; esac\n')
    docker.chmod(0o755)
    asked = {url: made(tmp_path, f"URL={url}") for url in ("", "https://api.example")}
    assert asked[""] == "tests/smoke.py http://127.0.0.1:8123 --api-key-file - --etl docker compose exec -T etl"
    assert asked["https://api.example"] == "tests/smoke.py https://api.example"


def made(folder: Path, *variables: str) -> str:
    """What `make smoke` would ask, with the programs of a folder first."""
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        ["make", "smoke", "PYTHON=echo", *variables], cwd=ROOT, env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_an_installation_without_data_fails(environment: dict[str, str], tmp_path: Path) -> None:
    with running(str(BIN / "gunicorn"), "-c", "python:web.gunicorn_conf", "web.wsgi:app", cwd=tmp_path, env=environment):
        done = smoke(environment, tmp_path, "--wait", "20")
    assert done.returncode == 1
    assert "never loaded: coinpaprika, coingecko, csv, rss" in done.stdout


def test_nobody_there_is_a_failure(environment: dict[str, str], tmp_path: Path) -> None:
    done = smoke(environment, tmp_path, "--wait", "0")
    assert done.returncode == 1
    assert "no answer at /health/ready" in done.stdout
