"""What tests share: a real Postgres with a fresh database each, an upstream on loopback, the command line."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import structlog

from etl.indexes import make_read_indexes
from etl.stop import Stop
from shared import embedded
from shared.db import Connection, connect
from shared.migrations import migrate
from shared.settings import Settings, read_settings

PAYLOADS = Path(__file__).parent / "payloads"
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB", "max_connections": "60"}
FORGOTTEN = [name.upper() for name in Settings.model_fields]
RECORD = """insert into unified_data (source, source_type, external_id, kind, name, category, raw_id, raw_position, run_id)
            values ('csv', 'csv', 'first', 'asset', 'First', 'other', 1, 1, 1)"""
LEFT_OUT = pytest.StashKey[set[str]]()
numbers = itertools.count()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test, and nothing that a request of the test before it bound to the log."""
    structlog.contextvars.clear_contextvars()
    for name in FORGOTTEN:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server for this session: `DATABASE_URL` if it was set, else an embedded one in memory."""
    if os.environ.get("DATABASE_URL"):
        yield os.environ["DATABASE_URL"]
        return
    memory = Path("/dev/shm")
    with opened_folder(memory if os.access(memory, os.W_OK) else None) as home, embedded.serve(home, settings=FAST) as dsn:
        yield dsn


@contextmanager
def opened_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that another account may enter: pytest's own is closed, and as root another account runs the server."""
    folder = Path(tempfile.mkdtemp(prefix="kasparro-test-", dir=parent))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def embedded_home() -> Iterator[Path]:
    """A home for an embedded server."""
    with opened_folder() as folder:
        yield folder / "home"


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a migrated database to copy, with the indexes that the first command makes: else the first of every test would."""
    name = f"kasparro_test_{os.getpid()}"
    with connect(server, "tests") as conn:
        conn.execute(f"create database {name}".encode())
    with connect(named(server, name), "tests") as conn:
        migrate(conn)
        conn.execute(RECORD)
        make_read_indexes(conn, Stop())
        conn.execute("truncate unified_data, data_counts, data_versions restart identity")
    yield name
    with connect(server, "tests") as conn:
        left = "select datname from pg_database where datname = %s or starts_with(datname, %s)"
        for row in conn.execute(left, [name, f"{name}_"]).fetchall():
            conn.execute(f"drop database {row['datname']} with (force)".encode())


@pytest.fixture
def dsn(server: str, template: str) -> Iterator[str]:
    """The address of a fresh, migrated database."""
    with created(server, template, f"template {template} strategy file_copy") as address:
        yield address


@pytest.fixture
def empty_dsn(server: str, template: str) -> Iterator[str]:
    """The address of a fresh database without any table."""
    with created(server, template) as address:
        yield address


@contextmanager
def created(server: str, prefix: str, clause: str = "") -> Iterator[str]:
    """Make a database for the length of a block and lend its address; the session drops at its end what a crash left by the prefix."""
    name = f"{prefix}_{next(numbers)}"
    with connect(server, "tests") as conn:
        conn.execute(f"create database {name} {clause}".encode())
        yield named(server, name)
        conn.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def conn(dsn: str) -> Iterator[Connection]:
    """A connection to the test's database."""
    with connect(dsn, "tests") as connection:
        yield connection


def named(dsn: str, database: str) -> str:
    """The same server, another database."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn) | {"dbname": database}
    return f"postgresql://?{'&'.join(f'{k}={v}' for k, v in quoted(parts).items())}"


def quoted(parts: Mapping[str, Any]) -> dict[str, str]:
    """Percent-encode the parts of an address."""
    return {key: quote(str(value), safe="") for key, value in parts.items()}


@dataclass
class Upstream:
    """An upstream on loopback: `answers` maps a path to what it answers, a value or a function of the request; `log` keeps requests."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)

    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [request["path"] for request in self.log]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Serve answers: bytes or JSON values (status 200), `(status, headers, bytes)`, or a callable from the request to one of these."""
    world = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            request = {"path": path, "query": query, "headers": {k.lower(): v for k, v in self.headers.items()}}
            world.log.append(request)
            answer = world.answers.get(path, (404, {}, b"not found"))
            answer = answer(request) if callable(answer) else answer
            if not isinstance(answer, tuple):
                answer = (200, {"Content-Type": "application/json"}, answer)
            status, headers, body = answer
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if status != 304:
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        world.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield world
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def logged(self) -> list[dict[str, Any]]:
        """The JSON lines of the log."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


Command = Callable[..., Finished]


@pytest.fixture
def etl(dsn: str, tmp_path: Path) -> Command:
    """Run `kasparro-etl` as a process of its own, on the test's database, in an empty folder."""

    def command(*args: str, **environ: str) -> Finished:
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn}
        bare |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        done = subprocess.run(
            [str(Path(sys.executable).parent / "kasparro-etl"), *args],
            env=bare | environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return command


@pytest.fixture
def offline(upstream: Upstream, payload: Callable[[str], bytes]) -> dict[str, str]:
    """Every source that needs a network, answered on loopback, as the environment that points there. A new source joins here."""
    upstream.answers = {
        "/p/tickers": payload("coinpaprika/tickers.json"),
        "/g/coins/markets": payload("coingecko/markets.json"),
        "/feed": (200, {"Content-Type": "application/rss+xml", "ETag": '"1"'}, payload("rss/short.xml")),
    }
    return {"COINPAPRIKA_BASE_URL": f"{upstream.url}/p", "COINGECKO_BASE_URL": f"{upstream.url}/g", "RSS_FEED_URLS": f"{upstream.url}/feed"}


@pytest.fixture
def payload() -> Callable[[str], bytes]:
    """Read a recorded-shape payload that ships with the tests."""
    return lambda name: (PAYLOADS / name).read_bytes()


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """Make settings from variables given as keywords."""
    return lambda **environ: read_settings(environ)


@pytest.fixture
def corpus() -> Path:
    """The folder of recorded payloads that `KASPARRO_CORPUS` names."""
    return Path(os.environ["KASPARRO_CORPUS"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests over recorded payloads belong to the suite only where the payloads are, those that act for another account only as root."""
    if not os.environ.get("KASPARRO_CORPUS"):
        recorded = [item for item in items if "corpus" in getattr(item, "fixturenames", ())]
        leave_out(config, items, recorded, "over recorded payloads", "KASPARRO_CORPUS is not set")
    if os.geteuid() != 0:
        leave_out(config, items, [item for item in items if item.get_closest_marker("as_root")], "for another account", "not root")


def leave_out(config: pytest.Config, items: list[pytest.Item], absent: list[pytest.Item], kind: str, why: str) -> None:
    """Take tests out of the suite where they cannot run; the summary says how many were left out, and why."""
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]
        config.stash.setdefault(LEFT_OUT, set()).add(f"{len(absent)} tests {kind} are no part of this run: {why}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was left out to the process that reports, where tests run in several: that one looks at no test itself."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT, set())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what one of several processes left out."""
    node.config.stash.setdefault(LEFT_OUT, set()).update(getattr(node, "workeroutput", {}).get("left_out", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out."""
    for told in sorted(config.stash.get(LEFT_OUT, ())):
        terminalreporter.write_line(told)
