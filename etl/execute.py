"""The run of one source from its lease to its end, whatever happens in between: lost connections, stops, failures, bugs."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import structlog

from etl.chaos import chaos_for
from etl.drift.store import count_drift
from etl.errors import CutShort, Fenced, Locked, Refused, SourceError, Stopped, kind_of
from etl.lease import Counts, Run, begin_run, finish_run, get_counts, get_position, is_abandoned, retake_run
from etl.pipeline import ingest
from etl.position import Position
from etl.work import Outcome, Work
from shared.addresses import printable
from shared.db import reconnect
from shared.errors import DatabaseError
from shared.model import RunStatus

log = structlog.get_logger()

RETRY = 1.0
"""Seconds between two looks at a database that is gone."""
TRIES = 5
"""How often a run goes on after the database gave up, without a batch committed in between."""


def run(work: Work) -> Outcome:
    """Run one source to its end and say how it came out. Raises DatabaseError; every other failure is recorded on the run."""
    name, started = work.source.name, time.monotonic()
    if work.options.dry_run:
        rehearsed = Run(0, name, 0, 0, get_position(work.link.conn, name), replay=work.options.trigger == "replay")
        with structlog.contextvars.bound_contextvars(source=name):
            outcome = attempt(work, fresh(work, rehearsed))
        return replace(outcome, seconds=time.monotonic() - started)
    try:
        opened = begin_run(work.link.conn, name, work.options.trigger, queued=work.options.queued)
    except Locked as held:
        return Outcome(name, None, error=held)
    work = replace(work, chaos=chaos_for(work.settings.chaos_seed, opened.id, work.settings.chaos_mode))
    with structlog.contextvars.bound_contextvars(source=name, run_id=opened.id):
        resumed = resumed_at(opened) if not work.options.full_refresh else None
        outcome = close(work, *persist(work, fresh(work, opened)))
    return replace(outcome, resumed_at=resumed, seconds=time.monotonic() - started)


def persist(work: Work, opened: Run) -> tuple[Run, Outcome]:
    """Attempt the run, and go on with it after every loss of the database that passes. Returns the run under its last epoch."""
    tries = 0
    while True:
        try:
            return opened, attempt(work, opened)
        except DatabaseError as lost:
            if not lost.passing or tries == TRIES:
                abort(work, opened, lost)
                raise
            log.warning("database lost", reason=str(lost))
            try:
                again = come_back(work, opened, lost)
            except Fenced as fenced:
                return opened, Outcome(work.source.name, "failed", opened.id, error=fenced)
            tries = tries + 1 if again.seq == opened.seq else 0
            opened = again if again.records and not again.replay else fresh(work, again)


def attempt(work: Work, opened: Run) -> Outcome:
    """Go through the loop once and turn however it ends into an outcome. Raises DatabaseError."""
    counts, snapshot = Counts(), None
    status: RunStatus = "success"
    error: BaseException | None = None
    bug = False
    try:
        for progress in ingest(work, opened):
            counts, snapshot = progress.counts, progress.snapshot
            work.show(progress)
    except (Stopped, CutShort) as stopped:
        status, error = "cancelled", Stopped(str(stopped))
    except Refused as refused:
        status, error = "refused", refused
    except (SourceError, Fenced) as failure:
        status, error = "failed", failure
    except DatabaseError:
        raise
    except Exception as unforeseen:
        status, error, bug = "failed", unforeseen, True
        log.exception("run crashed")
    return Outcome(work.source.name, ended(status, counts), opened.id or None, counts, error, bug, snapshot=snapshot)


def close(work: Work, opened: Run, outcome: Outcome) -> Outcome:
    """Record the end of a run and release its lease, also when the connection breaks meanwhile: repeating it does no harm."""
    told: dict[str, str | int | None] = {"snapshot_records": outcome.snapshot}
    if outcome.error:
        told |= {"error_type": kind_of(outcome.error), "error_message": message_of(work, outcome.error)}
    until = time.monotonic() + work.comeback
    while True:
        try:
            counts, drift = get_counts(work.link.conn, opened), count_drift(work.link.conn, opened.id)
            status = ended(outcome.status or "success", counts)
            finish_run(work.link.conn, opened, status, **told)
            if is_abandoned(work.link.conn, opened) and not outcome.error:
                lost_it = Fenced(f"the lease of {opened.source} was taken over: this run writes nothing more")
                return replace(outcome, status="failed", counts=counts, error=lost_it)
        except DatabaseError as lost:
            if not lost.passing or time.monotonic() > until:
                raise
            time.sleep(RETRY if work.link.conn.closed else 0)
            with suppress(DatabaseError):
                reconnect(work.link)
        else:
            return replace(outcome, status=status, counts=counts, drift=drift)


def come_back(work: Work, opened: Run, lost: DatabaseError) -> Run:
    """Wait for the database and take the run's lease again. Raises the loss once more when it takes too long, and Fenced."""
    until = time.monotonic() + work.comeback
    while True:
        try:
            reconnect(work.link)
            return retake_run(work.link.conn, opened)
        except DatabaseError as still:
            if not still.passing or time.monotonic() > until:
                told = f"{still}: it did not come back within {work.comeback:g} s: run `kasparro-etl run --source {opened.source}` to go on"
                raise DatabaseError(told) from lost
            time.sleep(RETRY)  # whole, also when a stop was asked for: the run is to be closed in the database first


def abort(work: Work, opened: Run, lost: DatabaseError) -> None:
    """Close a run that the database does not let go on, as far as it lets us: else the next run closes it as abandoned."""
    with suppress(DatabaseError):
        reconnect(work.link)
        finish_run(work.link.conn, opened, "failed", error_type=kind_of(lost), error_message=message_of(work, lost))


def message_of(work: Work, error: BaseException) -> str:
    """An error as a table can hold it: one line without secrets and without what is no text."""
    return printable(work.hide(str(error)))


def fresh(work: Work, opened: Run) -> Run:
    """The run from the position it found, or from the start when everything is to be read again."""
    return replace(opened, position=Position({})) if work.options.full_refresh else opened


def ended(status: RunStatus, counts: Counts) -> RunStatus:
    """A success with quarantined records is a partial one."""
    return "partial" if status == "success" and counts.quarantined else status


def resumed_at(run: Run) -> str | None:
    """Where a run goes on that an earlier one had left."""
    waiting = run.position.pending
    return f"record {waiting.next + 1} of {waiting.url}" if waiting else None
