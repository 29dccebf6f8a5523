"""The loop that takes one source through one run. Nothing else lives here.

extract | parse | batches | validate | load      (each `load` is one transaction with the checkpoint inside)
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import structlog

from etl.errors import FailureInjected, Fenced, Locked, SourceError, Stopped
from etl.fetch import Patience, Waits, fetcher
from etl.lease import HEARTBEAT, Pending, Position, Run, begin_run, finish_run, get_pending, get_position, renew_lease
from etl.load import Batch, Counts, load, rehearse
from etl.rate_limit import take_call
from etl.source import Payload, Source
from etl.stop import Stop, check, wait
from etl.validate import validate
from shared.db import Connection
from shared.errors import DatabaseError
from shared.model import RunStatus, Trigger
from shared.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """What one invocation asks for, beside the settings."""

    batch_size: int
    trigger: Trigger = "cli"
    limit: int | None = None
    full_refresh: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: what was committed so far, and what the source says of itself (`total` 0: unknown)."""

    counts: Counts
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one source came out. `run_id` is None when no run was opened (locked, dry run); `bug`: nobody foresaw the error."""

    source: str
    status: RunStatus | None
    run_id: int | None = None
    counts: Counts = field(default_factory=Counts)
    error: BaseException | None = None
    bug: bool = False
    resumed_at: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """What the steps of one run share. `show` is told after every batch; `hide` cuts secrets out of a text."""

    conn: Connection
    source: Source
    settings: Settings
    options: Options
    stop: Stop
    show: Callable[[Progress], None]
    hide: Callable[[str], str]
    patience: Patience = field(default_factory=Patience)


def run(work: Work) -> Outcome:
    """Run one source to its end and say how it came out. Raises DatabaseError; every other failure is recorded on the run."""
    name = work.source.name
    if work.options.dry_run:
        return attempt(work, Run(0, name, 0, 0, get_position(work.conn, name)))
    try:
        opened = begin_run(work.conn, name, work.options.trigger)
    except Locked as held:
        return Outcome(name, None, error=held)
    outcome = attempt(work, opened)
    assert outcome.status
    kind, message = (type(outcome.error).__name__, work.hide(str(outcome.error))) if outcome.error else (None, None)
    finish_run(work.conn, opened, outcome.status, kind, message)
    return outcome


def attempt(work: Work, opened: Run) -> Outcome:
    """Go through the loop and turn however it ends into an outcome."""
    started, counts = time.monotonic(), Counts()
    if work.options.full_refresh:
        opened = replace(opened, position=Position({}))
    status: RunStatus = "success"
    error: BaseException | None = None
    bug = False
    with structlog.contextvars.bound_contextvars(source=work.source.name, run_id=opened.id or None):
        try:
            for progress in ingest(work, opened):
                counts = progress.counts
                work.show(progress)
        except Stopped as stopped:
            status, error = "cancelled", stopped
        except (SourceError, Fenced) as failure:
            status, error = "failed", failure
        except DatabaseError:
            raise
        except Exception as unforeseen:
            status, error, bug = "failed", unforeseen, True
            log.exception("run crashed")
    if status == "success" and counts.quarantined:
        status = "partial"
    seconds = time.monotonic() - started
    return Outcome(work.source.name, status, opened.id or None, counts, error, bug, resumed_at(opened), seconds)


def ingest(work: Work, run: Run) -> Iterator[Progress]:
    """Load payload after payload, batch after batch; tell of each batch once it is committed."""
    source, counts, left = work.source, Counts(), allowance(work)
    write = rehearse if work.options.dry_run else load
    cursor = run.position.cursor
    for payload, start in payloads(work, run):
        digest = hashlib.sha256(payload.body)
        for note in payload.notes:
            log.warning("payload noted", url=payload.url, note=note)
        for first, values, last in batches(source.parse(payload), start, work.options.batch_size):
            check(work.stop)
            if left is not None and len(values) > left:
                values, last = values[:left], False
            after = Position(payload.cursor) if last else Position(cursor, pending(payload, digest.hexdigest(), first + len(values)))
            batch = Batch(payload, digest.digest(), first, len(values), validate(source, values, first), after)
            run, done = write(work.conn, source, run, batch)
            counts += done
            log.debug("batch loaded", records=len(values), position=first)
            yield Progress(counts, payload.done, payload.total)
            left = spend(work, left, len(values))
            if left == 0:
                return
        cursor = payload.cursor


def payloads(work: Work, run: Run) -> Iterator[tuple[Payload, int]]:
    """Yield what is to be loaded and from which record on: first the rest of a stored payload, then what upstream has.

    No transaction is open while upstream is waited for.
    """
    cursor, waiting = run.position.cursor, run.position.pending
    stored = get_pending(work.conn, work.source.type, work.source.name, waiting) if waiting else None
    if waiting and stored:
        yield stored, waiting.next
        cursor = stored.cursor
    limit = work.source.rate_limit(work.settings)
    waits = Waits(
        pause=lambda seconds: pause(work, run, seconds),
        throttle=lambda: take_call(work.conn, work.source.name, limit) if limit else 0.0,
    )
    for payload in work.source.extract(work.settings, fetcher(waits, work.patience), cursor):
        yield payload, 0


def batches(values: Iterator[Any], start: int, size: int) -> Iterator[tuple[int, list[Any], bool]]:
    """Cut values from position `start` on into lists of at most `size`, each with its first position and whether it is the last.

    There is always one, empty when nothing is left: a payload without records still moves the checkpoint.
    """
    deque(islice(values, start), maxlen=0)
    part = list(islice(values, size))
    while True:
        following = list(islice(values, size))
        yield start, part, not following
        if not following:
            return
        start, part = start + len(part), following


def pending(payload: Payload, sha256: str, following: int) -> Pending:
    """The mark of a payload that is not loaded to its end."""
    return Pending(sha256, following, payload.url, payload.meta, payload.cursor, payload.fetched_at.isoformat())


def pause(work: Work, run: Run, seconds: float) -> None:
    """Wait for an upstream: the lease is kept, and a request to stop ends the wait."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        wait(work.stop, min(left, HEARTBEAT))
        if run.id:
            renew_lease(work.conn, run)


def allowance(work: Work) -> int | None:
    """How many records this run may take, None without a bound. Raises FailureInjected when a failure at once was asked for."""
    bounds = [bound for bound in (work.options.limit, work.settings.etl_fail_after_n_records) if bound is not None]
    return spend(work, min(bounds), 0) if bounds else None


def spend(work: Work, left: int | None, records: int) -> int | None:
    """Take committed records off the allowance. Raises FailureInjected when it is used up and ETL_FAIL_AFTER_N_RECORDS set it."""
    if left is None:
        return None
    fail_after, limit = work.settings.etl_fail_after_n_records, work.options.limit
    if left == records and fail_after is not None and (limit is None or fail_after <= limit):
        raise FailureInjected(f"failed after {fail_after} records as ETL_FAIL_AFTER_N_RECORDS asks: unset it and run again to go on")
    return left - records


def resumed_at(run: Run) -> str | None:
    """Where a run went on that an earlier one had left."""
    waiting = run.position.pending
    return f"record {waiting.next + 1} of {waiting.url}" if waiting else None
