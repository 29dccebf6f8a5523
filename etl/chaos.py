"""Failure injection: faults at random points of a run, each logged with what is needed to see it again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import structlog

from etl.errors import SourceError
from shared.errors import DatabaseError

log = structlog.get_logger()

SHARE = 0.1
"""How often a fault strikes where one may."""


class ChaosFault(SourceError):
    """A fault that `CHAOS_MODE` asked for."""


@dataclass(frozen=True, slots=True)
class Chaos:
    """The dice of one run; `seed` and the run's id decide every throw. Off without a seed."""

    seed: int | None = None
    dice: random.Random = field(default_factory=random.Random)

    def strike(self, point: str) -> None:
        """Maybe raise a fault at a point of the run: at the edges of a commit also the loss of the connection."""
        if self.seed is None or self.dice.random() >= SHARE:
            return
        lost = "commit" in point and self.dice.random() < 0.5
        log.warning("fault injected", point=point, kind="connection lost" if lost else "failure", chaos_seed=self.seed)
        if lost:
            raise DatabaseError(f"connection lost {point}, as CHAOS_MODE asks", passing=True)
        raise ChaosFault(f"fault {point}, as CHAOS_MODE asks: run again to go on")


def chaos_for(seed: int | None, run_id: int, mode: bool) -> Chaos:
    """The dice of a run: the same seed and run strike at the same points, another run at others, so that a loop of runs ends."""
    if not mode:
        return Chaos()
    chosen = seed if seed is not None else random.SystemRandom().randrange(2**31)
    return Chaos(chosen, random.Random(f"{chosen}:{run_id}"))  # noqa: S311
