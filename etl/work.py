"""What goes into the run of one source, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from etl.chaos import Chaos
from etl.lease import Counts
from etl.patience import Patience
from etl.source import Source
from etl.stop import Stop
from shared.db import Link
from shared.model import RunStatus, Trigger
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """What one invocation asks for, beside the settings. `queued`: execute what waits in the queue, or nothing."""

    batch_size: int
    trigger: Trigger = "cli"
    limit: int | None = None
    full_refresh: bool = False
    dry_run: bool = False
    allow_shrink: bool = False
    queued: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: what was committed so far, what the source says of itself (`total` 0: unknown), its list's length once seen."""

    counts: Counts
    done: int
    total: int
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one source came out. `run_id` is None when no run was opened (locked, dry run); `bug`: nobody foresaw the error.

    `snapshot` is the length of the upstream's list, when the run saw it from start to end; `drift` counts the changes it met.
    """

    source: str
    status: RunStatus | None
    run_id: int | None = None
    counts: Counts = field(default_factory=Counts)
    error: BaseException | None = None
    bug: bool = False
    resumed_at: str | None = None
    seconds: float = 0.0
    snapshot: int | None = None
    drift: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What the steps of one run share. `show` is told after every batch; `hide` cuts secrets out of a text.

    `comeback` is how many seconds a lost database is waited for.
    """

    link: Link
    source: Source
    settings: Settings
    options: Options
    stop: Stop
    show: Callable[[Progress], None]
    hide: Callable[[str], str]
    chaos: Chaos
    patience: Patience = field(default_factory=Patience)
    comeback: float = 60.0
