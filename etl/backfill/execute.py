"""One process at work on backfills: chunk after chunk until none is open, whatever happens in between."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from etl.backfill import store
from etl.backfill.close import close
from etl.backfill.files import Stream, shut
from etl.backfill.load import Content, load_chunk, refuse_chunk, validated
from etl.backfill.store import Chunk, Tally
from etl.backfill.waits import waits_of
from etl.backfill.work import FileJob, RangeJob, Work, ask_for, read_block
from etl.chaos import chaos_for
from etl.errors import CutShort, FailureInjected, Fenced, FetchError, Refused, SourceError, Stopped
from etl.fetch import fetcher
from etl.guard import find_invalid
from etl.lease import Counts, Run
from etl.locks import behind_locks
from etl.source import Fetch
from etl.stop import check, wait
from etl.work import Outcome, Progress
from shared.addresses import printable
from shared.db import reconnect
from shared.errors import DatabaseError
from shared.model import RunStatus

log = structlog.get_logger()

LOOK = 0.5
"""Seconds between two looks at how far all processes are."""
POLL = 1.0
"""Seconds between two looks at chunks that others hold."""
TRIES = 5
MOST_FAILURES = 3
"""Chunks that may fail one after another before the process gives up: what ails them is not the chunk."""
NEWS = 60.0
"""Seconds between two log lines of how far it is."""


@dataclass(slots=True)
class State:
    """What a process remembers: what it loaded, failures in a row, chunks that were ended when it began, when it last logged and showed,
    the one file it keeps open.
    """

    counts: Counts = field(default_factory=Counts)
    failures: int = 0
    before: int = 0
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    shown: float = 0.0
    reading: Stream | None = None


def run(work: Work) -> tuple[Outcome, Tally]:
    """Work until every chunk is ended, by us or by others. Raises DatabaseError; every other failure is recorded on the run."""
    began = time.monotonic()
    opened = store.open_worker(work.link.conn, work.source)
    chaos = chaos_for(work.settings.chaos_seed, opened.id, work.settings.chaos_mode)
    with structlog.contextvars.bound_contextvars(source=work.source, run_id=opened.id):
        outcome, tally = close(work, opened, persist(replace(work, chaos=chaos), opened))
    return replace(outcome, seconds=time.monotonic() - began), tally


def persist(work: Work, opened: Run) -> Outcome:
    """Go on after every loss of the database that passes."""
    tries, state = 0, State()
    tally = store.get_tally(work.link.conn, work.ids)
    state.before = tally.total - tally.open
    while True:
        before = state.counts
        try:
            return attempt(work, opened, state)
        except DatabaseError as lost:
            tries = tries + 1 if state.counts == before else 0
            if not lost.passing or tries > TRIES:
                raise
            log.warning("database lost", reason=str(lost))
            try:
                come_back(work, opened, lost)
            except Fenced as fenced:
                return Outcome(work.source, "failed", opened.id, state.counts, fenced)


def come_back(work: Work, opened: Run, lost: DatabaseError) -> None:
    """Wait for the database and take our place again. Raises the loss once more when it takes too long, and Fenced."""
    until = time.monotonic() + work.comeback
    while True:
        try:
            reconnect(work.link)
            return store.retake_worker(work.link.conn, opened)
        except DatabaseError as still:
            if not still.passing or time.monotonic() > until:
                raise DatabaseError(f"{still}: it did not come back within {work.comeback:g} s: run the same command again") from lost
            time.sleep(POLL)  # whole, also when a stop was asked for: the run is to be closed in the database first


def attempt(work: Work, opened: Run, state: State) -> Outcome:
    """Take chunks until none is open, and turn however that ends into an outcome. Raises DatabaseError."""
    status: RunStatus = "success"
    error: BaseException | None = None
    bug = False
    try:
        work_off(work, opened, state)
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
        log.exception("backfill crashed")
    return Outcome(work.source, status, opened.id, state.counts, error, bug)


def work_off(work: Work, opened: Run, state: State) -> None:
    """The loop: claim, fetch or read, validate, load. Waits for the chunks of others, takes over those of the dead, closes their runs."""
    fetch = fetcher(waits_of(work, opened), work.patience)
    while True:
        check(work.stop)
        chunk = store.take_chunk(work.link.conn, opened, work.ids)
        if chunk:
            take_on(work, opened, state, chunk, fetch)
        else:
            store.abandon_workers(work.link.conn)
            if store.get_tally(work.link.conn, work.ids).open == 0:
                return
            wait(work.stop, POLL)
        if time.monotonic() - state.shown >= LOOK:
            tell(work, state)


def take_on(work: Work, opened: Run, state: State, chunk: Chunk, fetch: Fetch) -> None:
    """Load one chunk, or note why it was not."""
    try:
        content = open_chunk(work, state, chunk, fetch)
    except SourceError as error:
        job = work.jobs[chunk.backfill_id]
        if isinstance(job, FileJob) and job.survey.in_order and not error.permanent:
            raise  # its chunk is given back: what comes after it must not be loaded before it
        note_failure(work, opened, state, chunk, error)
        return
    try:
        batch = validated(content, work.chaos.strike)
    except SourceError as error:
        note_failure(work, opened, state, chunk, error)
        return
    rejected = len(batch.validated.rejected)
    seen, invalid = state.counts.total + batch.size, state.counts.quarantined + rejected
    if refused := find_invalid(seen, invalid, work.settings.etl_max_invalid_ratio):
        state.counts += refuse_chunk(work.link.conn, opened, chunk, content, batch, refused)
        raise refused
    for note in content.payload.notes:
        log.warning("payload noted", url=content.payload.url, note=note)
    load = partial(load_chunk, work.link.conn, opened, chunk, content, batch)
    state.counts += behind_locks(load, partial(store.renew_worker, work.link.conn, opened), work.stop)
    state.failures = 0
    log.debug("chunk loaded", backfill=chunk.backfill_id, chunk=chunk.number, records=batch.size)
    fail_after = work.settings.etl_fail_after_n_records
    if fail_after is not None and state.counts.total >= fail_after:
        step = "unset it and run the same command again to go on"
        raise FailureInjected(f"failed after {state.counts.total} records as ETL_FAIL_AFTER_N_RECORDS asks: {step}")


def open_chunk(work: Work, state: State, chunk: Chunk, fetch: Fetch) -> Content:
    """Get what a chunk is made of. Raises SourceError."""
    job = work.jobs[chunk.backfill_id]
    if isinstance(job, FileJob):
        if state.reading not in (None, job.stream):
            shut(state.reading)
        state.reading = job.stream
        return read_block(job, chunk)
    work.chaos.strike("before fetch")
    content = ask_for(job, chunk, work.settings, fetch)
    work.chaos.strike("after fetch")
    return content


def note_failure(work: Work, opened: Run, state: State, chunk: Chunk, error: SourceError) -> None:
    """End a chunk that could not be had, and what shares its reason. Raises the error when it is not about the chunk."""
    job, told = work.jobs[chunk.backfill_id], printable(work.hide(str(error)))
    status = error.status if isinstance(error, FetchError) else None
    if isinstance(job, RangeJob) and error.permanent and any(words in told for words in job.history.refusals):
        store.end_chunk(work.link.conn, opened, chunk, "not allowed", told, before=True)
        log.warning("chunk refused", asset=chunk.external_id, reason=told)
        return
    if status in (401, 403):
        raise error
    unknown = status == 404 and isinstance(job, RangeJob)
    told = f"{work.source} knows no asset {chunk.external_id} (it answered 404): check the id" if unknown else told
    store.end_chunk(work.link.conn, opened, chunk, "failed", told, asset=unknown)
    log.warning("chunk failed", backfill=chunk.backfill_id, chunk=chunk.number, asset=chunk.external_id, reason=told)
    state.failures += 0 if unknown else 1
    if state.failures >= MOST_FAILURES:
        raise SourceError(f"{state.failures} chunks failed one after another, the last with: {told}", permanent=error.permanent)


def tell(work: Work, state: State) -> None:
    """Show how far all processes together are; once a minute as a log line too."""
    state.shown = time.monotonic()
    tally = store.get_tally(work.link.conn, work.ids)
    ended, total = tally.total - tally.open - state.before, tally.total - state.before
    work.show(Progress(state.counts, ended, total))
    now = time.monotonic()
    if now - state.told >= NEWS and ended:
        state.told = now
        left = round((now - state.started) / ended * tally.open)
        log.info("backfill progressed", chunks_done=tally.total - tally.open, chunks_total=tally.total, eta_seconds=left)
