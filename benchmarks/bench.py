"""What a section is given: the server, a folder, and how much is to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bench:
    """The server's address and a folder of ours; `loads` are the rounds of what takes minutes, `most` the rows of the largest table."""

    dsn: str
    folder: Path
    rows: int
    rounds: int
    loads: int
    seconds: float
    most: int
    with_peers: bool
