"""What the tests of the API share: the app over a real database, filled by the real pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from shared.settings import read_settings
from web import create_app
from web.db import forget

App = Callable[..., Flask]
SAMPLE = str(Path(__file__).parents[2] / "data" / "*.csv")


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    """Make the app over the test's database, under settings given as in the environment."""
    made: list[Flask] = []

    def make(**environ: str) -> Flask:
        made.append(create_app(read_settings(environ), dsn))
        return made[-1]

    yield make
    for each in made:
        forget(each.extensions["kasparro"].reader)


@pytest.fixture
def client(app: App) -> FlaskClient:
    """A client of the app without settings."""
    return app().test_client()


@pytest.fixture
def filled(etl: Any) -> None:
    """The committed sample, loaded by the command line."""
    assert etl("run", "--source", "csv", CSV_PATHS=SAMPLE).code == 0


@dataclass(frozen=True)
class Served:
    """A gunicorn of two workers: where it listens, and what it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The log so far, which is one JSON object a line; of one event when it is named."""
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if event in ("", line["event"])]

    @property
    def url(self) -> str:
        """Its address, which it logs once it listens."""
        return str(self.lines("api started")[0]["addresses"][0])

    def get(self, path: str, **options: Any) -> requests.Response:
        """Ask on a connection of its own."""
        return requests.get(f"{self.url}{path}", timeout=20, **options)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start gunicorn as `make serve` does, on a port of its own, and end it with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**environ: str) -> Served:
        log = tmp_path / f"served-{len(started)}.log"
        command = [sys.executable, "-m", "gunicorn", "-c", "python:web.gunicorn_conf", "web.wsgi:app"]
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": "0", "LOG_FORMAT": "json", "PYTHONPATH": os.getcwd()}
        with log.open("wb") as stderr:
            started.append(subprocess.Popen(command, env=bare | environ, stderr=stderr))
        served = Served(started[-1], log)
        wait_until(lambda: len(served.lines("api started")) > 0 and answers(served))
        return served

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=30)


def answers(served: Served) -> bool:
    """Whether a worker is there to answer."""
    try:
        return served.get("/health/live").ok
    except requests.ConnectionError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that has to come about, however slow the machine is."""
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about in a minute")
