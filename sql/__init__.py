"""Every SQL statement by its name: `queries["upsert_unified"]`. Reads the `-- name:` blocks of the files beside it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

BLOCK = re.compile(r"^-- name: ([a-z_0-9]+)\n(.*?)(?=^-- name: |\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: its file's name without the ending, the script, and the digest that shows an edit."""

    name: str
    script: bytes
    checksum: str


def read_queries() -> dict[str, bytes]:
    """Read all named statements. Raises ValueError when a name is used twice."""
    found: dict[str, bytes] = {}
    for file in sorted(files("sql").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        for name, statement in BLOCK.findall(file.read_text(encoding="utf-8")):
            if name in found:
                raise ValueError(f"{file.name}: the name {name} is taken: rename one of the two statements")
            found[name] = statement.strip().encode()
    return found


def read_migrations() -> list[Migration]:
    """Read the migrations in the order of their numbers."""
    folder = files("sql") / "migrations"
    scripts = sorted((file.name, file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".sql"))
    return [Migration(name.removesuffix(".sql"), script, hashlib.sha256(script).hexdigest()) for name, script in scripts]


queries: dict[str, bytes] = read_queries()
