"""The loop that takes one source through its payloads. Nothing else lives here.

extract | parse | batches | validate | load      (each `load` is one transaction with the checkpoint inside;
                                                  meanwhile a thread parses and validates the next batch)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

import structlog

from etl.ahead import ahead
from etl.batch import Batch
from etl.batches import ready
from etl.drift.aliases import aliased
from etl.drift.aside import count_known_invalid, pass_by, set_aside
from etl.drift.profile import PEEK
from etl.drift.store import Known, get_known
from etl.drift.watch import Verdict, look, look_at_refused, note_ended, note_loaded
from etl.errors import FailureInjected, OneOfMany, Refused
from etl.guard import find_invalid, find_shrink, of_payload
from etl.lease import Counts, Run, get_pending, get_usual_snapshot, renew_lease
from etl.load import find_payload, load, refuse, rehearse
from etl.locks import behind_locks
from etl.position import Position
from etl.snapshot import Snapshot, add_batch, begin_payload, count_with, mark_absent
from etl.source import Cursor, Payload
from etl.stop import check
from etl.validate import Validated
from etl.waits import fetch_of
from etl.work import Progress, Work

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(slots=True)
class Ingestion:
    """A run on its way through its payloads: the run as it stands, what it did, and where its source stands before the payload in hand.

    `left` is how many records it may still take, None without a bound; `apart` what the breaker leaves out of its ratio.
    """

    work: Work
    run: Run
    known: Known
    left: int | None
    cursor: Cursor
    done: int = 0
    counts: Counts = field(default_factory=Counts)
    apart: Counts = field(default_factory=Counts)
    snapshot: Snapshot = field(default_factory=Snapshot)


def ingest(work: Work, run: Run) -> Iterator[Progress]:
    """Load payload after payload, batch after batch; tell of each batch once it is committed.

    Raises Refused, Blocked, SourceError, FailureInjected, Stopped, Fenced, DatabaseError; what was told of stays.
    """
    work = replace(work, source=aliased(work.link.conn, work.source))
    known = get_known(work.link.conn, work.source.name)
    ingestion = Ingestion(work, run, known, allowance(work, run), run.position.cursor)
    for payload, start in payloads(work, run, known):
        yield from take(ingestion, payload, start)
        if ingestion.left == 0:
            return


def take(ingestion: Ingestion, payload: Payload, start: int) -> Iterator[Progress]:
    """Load a payload from record `start` on, or keep it whole where its drift says so."""
    work, digest = ingestion.work, hashlib.sha256(payload.body)
    for note in payload.notes:
        log.warning("payload noted", url=payload.url, note=note)
    begin_payload(ingestion.snapshot, payload, start)
    if ingestion.run.replay:
        ingestion.apart = ingestion.counts  # the breaker of a replay judges payload by payload
    work.chaos.strike("in parse")
    values, shrunk = opened(work, payload, ingestion.snapshot)
    verdict = Verdict()
    if start == 0 and payload.head:
        verdict, values = looked_at(ingestion, payload, values)
    if verdict.refused or verdict.aside:
        done = hold(ingestion, verdict, payload, digest, values)
        ingestion.snapshot.begun = False
        yield Progress(ingestion.counts, payload.done, payload.total)
        if verdict.refused and not ingestion.run.replay:  # a replay passes by what still waits in quarantine as a whole
            raise verdict.refused
        ingestion.left = spend(work, ingestion.left, done.total)
    else:
        loaded = yield from load_batches(ingestion, payload, digest, values, start, shrunk)
        if ingestion.left == 0:
            return
        note_loaded(work, ingestion.run, ingestion.known, verdict if loaded else Verdict())
    ingestion.cursor, ingestion.done = payload.cursor, payload.done
    if payload.list_end and ingestion.snapshot.begun:
        if payload.list_end == "whole" and ingestion.run.id:
            patiently(work, ingestion.run, partial(mark_absent, work.link.conn, ingestion.run, ingestion.snapshot))
        yield Progress(ingestion.counts, payload.done, payload.total, ingestion.snapshot.records)


def load_batches(
    ingestion: Ingestion, payload: Payload, digest: Any, values: Iterator[Any], start: int, shrunk: Refused | None
) -> Generator[Progress, None, bool]:
    """Commit the batches of a payload, each by itself. False when a replay kept the payload whole instead. Raises Refused."""
    work, write = ingestion.work, rehearse if ingestion.work.options.dry_run else load
    with closing(ahead(ready(work, payload, digest, ingestion.cursor, values, start, ingestion.left))) as batches:
        for batch, last in batches:
            check(work.stop)
            if refused := shrunk or invalid(ingestion, batch):
                if ingestion.run.replay and payload.head and batch.first == 0:
                    hold(ingestion, Verdict(keep=True), payload, digest, iter(work.source.parse(payload)))
                    yield Progress(ingestion.counts, payload.done, payload.total)
                    return False
                yield Progress(ingestion.counts + keep(work, ingestion.run, batch), payload.done, payload.total)
                raise refused
            ingestion.run, done = patiently(work, ingestion.run, partial(write, work.link.conn, work.source, ingestion.run, batch))
            ingestion.counts += done
            add_batch(ingestion.snapshot, batch)
            log.debug("batch loaded", records=batch.size, position=batch.first)
            yield Progress(ingestion.counts, payload.done if last else ingestion.done, payload.total)
            ingestion.left = spend(work, ingestion.left, batch.size)
            if ingestion.left == 0:
                break
    return True


def patiently(work: Work, run: Run, write: Callable[[], T]) -> T:
    """Do a write of the run, behind the locks of other sessions. Raises Blocked."""
    return behind_locks(write, partial(renew_lease, work.link.conn, run) if run.id else lambda: None, work.stop)


def looked_at(ingestion: Ingestion, payload: Payload, values: Iterator[Any]) -> tuple[Verdict, Iterator[Any]]:
    """Compare a payload's first records with what its stream sent so far, and give all of them back."""
    work, head = ingestion.work, list(islice(values, PEEK))
    return look(work, ingestion.run, ingestion.known, work.source, payload, head), chain(head, values)


def hold(ingestion: Ingestion, verdict: Verdict, payload: Payload, digest: Any, values: Iterator[Any]) -> Counts:
    """Keep a payload whole instead of loading it, and return its records as counted; none when it is left for the next run.

    A replay passes it by, a dry run only counts.
    """
    work, run = ingestion.work, ingestion.run
    if verdict.refused and not verdict.keep and not run.replay:
        return Counts()
    batch = Batch(payload, digest.digest(), 0, sum(1 for _ in values), Validated([], []), Position(payload.cursor))
    if work.options.dry_run:
        done = Counts(quarantined=batch.size)
    elif run.replay:
        done = pass_by(work.link.conn, work.source, run, batch)
    else:
        ingestion.run, done = set_aside(work.link.conn, work.source, run, batch, verdict.drifts, verdict.reason, move=verdict.aside)
    ingestion.counts, ingestion.apart = ingestion.counts + done, ingestion.apart + done
    return done


def payloads(work: Work, run: Run, known: Known) -> Iterator[tuple[Payload, int]]:
    """Yield what is to be loaded and from which record on: first the rest of a stored payload, then what upstream has.

    No transaction is open while upstream is waited for.
    """
    cursor, waiting = run.position.cursor, run.position.pending
    stored = get_pending(work.link.conn, work.source.type, work.source.name, waiting) if waiting else None
    if waiting and stored:
        yield stored, waiting.next
        cursor = stored.cursor
    work.chaos.strike("before fetch")
    try:
        for payload in work.source.extract(work.settings, fetch_of(work, run), cursor):
            work.chaos.strike("after fetch")
            yield payload, 0
            work.chaos.strike("before fetch")
        note_ended(work, run, known)
    except OneOfMany as error:
        raise look_at_refused(work, run, known, error) from None


def opened(work: Work, payload: Payload, snapshot: Snapshot) -> tuple[Iterator[Any], Refused | None]:
    """Parse a payload. One that ends the upstream's whole list is counted first, and refused when the list shrank."""
    values = work.source.parse(payload)
    if payload.list_end != "whole" or not snapshot.begun or work.options.allow_shrink:
        return values, None
    found = list(values)
    return iter(found), find_shrink(
        work.source.name, count_with(snapshot, work.source, found), get_usual_snapshot(work.link.conn, work.source.name)
    )


def invalid(ingestion: Ingestion, batch: Batch) -> Refused | None:
    """The refusal of a batch that makes too many records of the run invalid; payloads held back as a whole do not count.

    A replay takes as many as invalid as runs did that loaded the payload.
    """
    work, counts, apart = ingestion.work, ingestion.counts, ingestion.apart
    seen, bad = counts.total - apart.total + batch.size, counts.quarantined - apart.quarantined + len(batch.validated.rejected)
    refused = find_invalid(seen, bad, work.settings.etl_max_invalid_ratio)
    if not refused or not ingestion.run.replay:
        return refused
    raw_id = find_payload(work.link.conn, work.source, batch)
    if bad <= count_known_invalid(work.link.conn, work.source.name, raw_id):
        return None
    return of_payload(refused, work.source.name, batch.payload, raw_id)


def keep(work: Work, run: Run, batch: Batch) -> Counts:
    """Keep what a refused batch brought, for people to look at; a dry run keeps nothing."""
    return Counts(quarantined=len(batch.validated.rejected)) if work.options.dry_run else refuse(work.link.conn, work.source, run, batch)


def allowance(work: Work, run: Run) -> int | None:
    """How many records this run may still take, None without a bound. Raises FailureInjected when a failure at once was asked for."""
    bounds = [bound for bound in (work.options.limit, work.settings.etl_fail_after_n_records) if bound is not None]
    return spend(work, min(bounds) - run.records, 0) if bounds else None


def spend(work: Work, left: int | None, records: int) -> int | None:
    """Take committed records off the allowance. Raises FailureInjected when it is used up and ETL_FAIL_AFTER_N_RECORDS set it."""
    if left is None:
        return None
    fail_after, limit = work.settings.etl_fail_after_n_records, work.options.limit
    if left <= records and fail_after is not None and (limit is None or fail_after <= limit):
        raise FailureInjected(f"failed after {fail_after} records as ETL_FAIL_AFTER_N_RECORDS asks: unset it and run again to go on")
    return max(left - records, 0)  # a payload that is kept whole may hold more than was left
