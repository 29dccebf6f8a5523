"""Embedded Postgres: a real server in a folder of ours, started by its first user and stopped by its last; knows no tables."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg

from shared.embedded_host import (
    NAME,
    Account,
    digest,
    find_binaries,
    is_running,
    last_lines,
    locked,
    make_private,
    open_private,
    pick_account,
    place,
    read_major,
    run,
    within_reach,
)
from shared.errors import DatabaseError

PATIENCE = 60.0
LOG_LIMIT = 5_000_000
SOCKET_LIMIT = 103 - len("/.s.PGSQL.5432")  # bytes: macOS allows 103, Linux 107
OCCUPIED = ('lock file "postmaster.pid" already exists', "pre-existing shared memory block")


@dataclass(frozen=True)
class Server:
    """One user's hold on a running server: `dsn` is for everybody, the rest is for `stop`."""

    dsn: str
    data: Path
    log: Path
    sockets: Path
    binaries: Path
    account: Account | None
    users: IO[bytes]
    pid: int


@contextmanager
def serve(home: Path, *, settings: Mapping[str, str] = {}, binaries: Path | None = None) -> Iterator[str]:
    """Lend the address of the server of `home` for as long as the block lasts. Raises DatabaseError."""
    server = start(home, settings=settings, binaries=binaries)
    try:
        yield server.dsn
    finally:
        stop(server)


def start(home: Path, *, settings: Mapping[str, str] = {}, binaries: Path | None = None) -> Server:
    """Start the server of `home` with `settings`, or join it as it runs. Each start needs a stop. Raises DatabaseError."""
    try:
        home = home.absolute()
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        account = pick_account(home)
        data = place(home, account)
        with locked(data.with_name(f"{data.name}.start.lock")) as lock:
            server = enter(data, account, binaries)
            try:
                wake(server, settings, lock)
            except BaseException:
                leave(server)
                raise
    except (OSError, psycopg.Error) as error:
        why = last_lines(str(error))
        raise DatabaseError(f"no embedded database in {home} ({why}): run as the account that owns it, or set DATABASE_URL") from error
    return server


def stop(server: Server) -> None:
    """Give the server up; the last user out stops it. In a forked child, or a second time, nothing happens."""
    if server.users.closed:
        return
    if server.pid != os.getpid():  # no unlocking here: the lock is the parent's too
        server.users.close()
        return
    with suppress(FileNotFoundError), locked(server.data.with_name(f"{server.data.name}.start.lock")):
        leave(server)
    server.users.close()  # the whole folder was removed: the server ends by itself


def enter(data: Path, account: Account | None, override: Path | None) -> Server:
    """Choose binaries and socket folder, and sign in as a user: a shared lock, which the kernel ends even after kill -9."""
    made = int((data / "PG_VERSION").read_text()) if (data / "PG_VERSION").exists() else None
    binaries = within_reach(find_binaries(data, made, override), account)
    sockets = data
    if len(os.fsencode(data)) > SOCKET_LIMIT or re.search('[,"\n]', str(data)):  # a comma separates hosts in an address
        uid = account.uid if account else os.geteuid()
        sockets = Path(f"/tmp/{NAME}-{uid}-{digest(data)}")  # noqa: S108  the same for every user, so never $TMPDIR
        make_private(sockets, account)
    users = open_private(data.with_name(f"{data.name}.users.lock"))
    fcntl.flock(users, fcntl.LOCK_SH)
    return Server(address(sockets, NAME), data, data.with_name("server.log"), sockets, binaries, account, users, os.getpid())


def wake(server: Server, settings: Mapping[str, str], lock: IO[bytes]) -> None:
    """Bring the server from whatever state it was left in to one that answers and has our database."""
    if not (server.data / "PG_VERSION").exists():
        create(server, lock, durable=settings.get("fsync") != "off")
    if not answers(server):
        boot(server, settings)
    with psycopg.connect(address(server.sockets, "postgres"), autocommit=True) as conn:
        if not conn.execute("SELECT FROM pg_database WHERE datname = %s", (NAME,)).rowcount:
            conn.execute(f"CREATE DATABASE {NAME}")


def leave(server: Server) -> None:
    """Sign out, and stop the server if nobody else is signed in. The caller holds the start lock."""
    with suppress(BlockingIOError):
        fcntl.flock(server.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if answers(server):  # only then is the pid in its file certain to be the server's
            run(server.account, server.binaries / "pg_ctl", "-D", server.data, "-m", "fast", "-w", "stop")
        if server.sockets != server.data:
            with suppress(OSError):
                server.sockets.rmdir()
    fcntl.flock(server.users, fcntl.LOCK_UN)  # a forked child may still have it open
    server.users.close()


def create(server: Server, lock: IO[bytes], *, durable: bool) -> None:
    """Make a cluster beside its place and move it there when complete. Initdb inherits the lock: an orphaned one is waited for."""
    for half in server.data.parent.glob(f"{server.data.name}.new-*"):
        shutil.rmtree(half, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{server.data.name}.new-", dir=server.data.parent))
    try:
        if server.account:
            os.chown(new, *server.account)
        locale = ["--locale=C"]
        if read_major(server.binaries) >= 17:  # sorts like C, but knows the letters of every language
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        flags = ["--encoding=UTF8", *locale, "--data-checksums", "--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        flags += [] if durable else ["--no-sync"]
        done = run(server.account, server.binaries / "initdb", "-D", new, "-U", NAME, *flags, keep=lock.fileno())
        if done.returncode:
            raise DatabaseError(f"initdb failed in {server.data.parent} ({last_lines(done.stdout)}): mend that, or set DATABASE_URL")
        new.rename(server.data)
        parent = os.open(server.data.parent, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def boot(server: Server, settings: Mapping[str, str]) -> None:
    """Launch the server until it answers. One that is still dying or recovering is waited for, a stale pid is overruled."""
    if server.log.exists() and server.log.stat().st_size > LOG_LIMIT:
        server.log.replace(server.log.with_name("server.log.1"))
    deadline = time.monotonic() + PATIENCE
    stale = "0"
    while True:
        begun = server.log.stat().st_size if server.log.exists() else 0
        pid = launch(server, settings, stale)
        while not answers(server) and is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if answers(server):
            return
        with server.log.open(errors="replace") as log:
            log.seek(begun)
            said = log.read()
        if time.monotonic() > deadline or not any(words in said for words in OCCUPIED):
            raise DatabaseError(f"the embedded database did not start ({last_lines(said)}): read {server.log}, or set DATABASE_URL")
        with suppress(OSError, IndexError):
            stale = (server.data / "postmaster.pid").read_text().split()[0]
        time.sleep(0.1)


def launch(server: Server, settings: Mapping[str, str], stale: str) -> int:
    """Launch the server in a session of its own, which Ctrl-C does not reach, as nobody's child; return its pid.

    Postgres does not count PG_GRANDPARENT_PID as an owner of the data, so a zombie's or a reused pid cannot block it for ever;
    whether processes of a previous server still use the data it checks all the same.
    """
    ours = {"listen_addresses": "", "port": "5432", "unix_socket_permissions": "0700", "unix_socket_directories": f'"{server.sockets}"'}
    facts = [part for name, value in {**settings, **ours}.items() for part in ("-c", f"{name}={value}")]
    command: list[str | Path] = ["/bin/sh", "-c", '"$0" "$@" >&2 & echo $!', server.binaries / "postgres", "-D", server.data, *facts]
    with open_private(server.log) as log:
        return int(run(server.account, *command, stderr=log.fileno(), extra={"PG_GRANDPARENT_PID": stale}).stdout)


def answers(server: Server) -> bool:
    """Connect: the only truth about a server. Pids are reused, zombies look alive, and a starting server is not there yet."""
    try:
        psycopg.connect(address(server.sockets, "postgres"), connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


def address(sockets: Path, database: str) -> str:
    """The address of a database behind a socket."""
    return f"postgresql://{NAME}@/{database}?host={quote(str(sockets), safe='')}&port=5432"
