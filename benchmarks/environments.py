"""The environments of the peers that load: each its own, from pinned requirements; one that cannot be had is absent, with the reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


class Absent(Exception):
    """A peer cannot be had on this machine."""


def environment_of(name: str) -> Path:
    """The folder of a peer's environment, made anew when its requirements changed. Raises Absent when they cannot be installed."""
    pinned, folder = PEERS / f"requirements-{name}.txt", PEERS / f".venv-{name}"
    mark, known = folder / "made-from", sha256(pinned.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != known:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pinned)]
        done = subprocess.run(install, check=False, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(folder)
            raise Absent(f"{pinned.name} cannot be installed: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}")
        mark.write_text(known)
    return folder


def find_one(name: str, pattern: str) -> Path:
    """A file in a peer's environment. Raises Absent."""
    folder = environment_of(name)
    found = next(folder.glob(pattern), None)
    if found is None:
        raise Absent(f"{name} comes without a program for this machine")
    return found


def find_program(name: str) -> Path:
    """A program of the machine. Raises Absent."""
    found = shutil.which(name)
    if found is None:
        raise Absent(f"{name} is not installed on this machine")
    return Path(found)


def list_pinned() -> dict[str, str]:
    """The versions of the peers that load, by name."""
    versions = {}
    for name, package in (("dlt", "dlt"), ("sling", "sling-linux-amd64"), ("ingestr", "ingestr")):
        lines = dict(line.split("==") for line in (PEERS / f"requirements-{name}.txt").read_text().split())
        versions[name] = lines[package]
    if found := shutil.which("pgloader"):
        told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        versions["pgloader"] = told.split('"')[1] if '"' in told else "of unknown version"
    return versions
