"""Checks of this machine: folders, disks, files that hold secrets, files to read."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from etl.doctor.finding import Finding, size
from etl.sources.csv_files.files import find_files
from shared.db import Connection, fetch_one
from shared.settings import Settings
from sql import queries

TIGHT, FULL = 5 * 10**9, 5 * 10**8
"""Free bytes below which a disk is soon, or nearly, full."""


def check_machine(settings: Settings, secrets: Mapping[str, Path]) -> Iterator[Finding]:
    """Every check that needs no database."""
    if settings.database_url is None:
        yield home(settings.home)
        yield disk("disk", settings.home)
    yield temporary()
    yield from files(settings)
    yield from modes(secrets)


def home(folder: Path) -> Finding:
    """Whether the embedded database's folder can be written, or made."""
    place = nearest(folder)
    if os.access(place, os.W_OK | os.X_OK):
        return Finding("✔", "home", f"{folder} is writable")
    return Finding("✘", "home", f"{folder} is not writable", "set KASPARRO_HOME to a folder of yours, or set DATABASE_URL")


def nearest(path: Path) -> Path:
    """The folder itself, or the first above it that exists."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def temporary() -> Finding:
    """Whether there is a folder for temporary files."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    except OSError as error:
        return Finding("✘", "temporary", f"no temporary file can be written ({error.strerror})", "free some space, or set TMPDIR")
    return Finding("✔", "temporary", f"{tempfile.gettempdir()} is writable")


def disk(name: str, path: Path) -> Finding:
    """How much room is left where something lies."""
    try:
        free = shutil.disk_usage(nearest(path)).free
    except OSError as error:
        return Finding("!", name, f"the room at {path} cannot be told ({error.strerror})", "look with df")
    told = f"{size(free)} free at {path}"
    if free < TIGHT:
        step = "kasparro-etl prune --raw-older-than 90d, or a larger disk"
        return Finding("✘" if free < FULL else "!", name, told, step)
    return Finding("✔", name, told)


def data_disk(conn: Connection) -> Iterator[Finding]:
    """The disk of the server's data, when the server runs on this machine and lets us know."""
    row = fetch_one(conn, queries["get_data_directory"])
    if row and row["path"] and Path(row["path"]).exists():
        yield disk("data disk", Path(row["path"]))


def files(settings: Settings) -> Iterator[Finding]:
    """Whether the files of CSV_PATHS are there and can be read."""
    paths, failures = find_files(settings.csv_paths)
    closed = [path for path in paths if not os.access(path, os.R_OK)]
    for path in closed:
        yield Finding("✘", "csv", f"{path} cannot be read", f"chmod +r {path}")
    for name, error in failures:
        yield Finding("✘", "csv", f"{name}: {error}", "or leave csv out of --source")
    if not closed and not failures:
        yield Finding("✔", "csv", f"{len(paths)} {'file' if len(paths) == 1 else 'files'} readable")


def modes(secrets: Mapping[str, Path]) -> Iterator[Finding]:
    """Whether others may read the files that settings take secrets from."""
    for name, path in secrets.items():
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # the settings have told already
        if mode & 0o077:
            yield Finding("!", "secrets", f"{name}_FILE is open to others (mode {mode:04o})", f"chmod 600 {path}")
        else:
            yield Finding("✔", "secrets", f"{name}_FILE is closed to others")
