"""The loop that takes one source through its payloads. Nothing else lives here.

extract | parse | batches | validate | load      (each `load` is one transaction with the checkpoint inside;
                                                  meanwhile a thread parses and validates the next batch)
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

import structlog

from etl.ahead import ahead
from etl.batch import Batch
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
from etl.position import Position, pending
from etl.snapshot import Snapshot, add_batch, begin_payload, count_with, mark_absent
from etl.source import Cursor, Payload
from etl.stop import check
from etl.validate import Validated, validate
from etl.waits import fetch_of
from etl.work import Progress, Work

T = TypeVar("T")
log = structlog.get_logger()


def ingest(work: Work, run: Run) -> Iterator[Progress]:
    """Load payload after payload, batch after batch; tell of each batch once it is committed.

    Raises Refused, Blocked, SourceError, FailureInjected, Stopped, Fenced, DatabaseError; what was told of stays.
    """
    write = rehearse if work.options.dry_run else load
    known = get_known(work.link.conn, work.source.name)
    work = replace(work, source=aliased(work.link.conn, work.source))
    counts, held, snapshot, left, cursor, before = Counts(), Counts(), Snapshot(), allowance(work, run), run.position.cursor, 0
    for payload, start in payloads(work, run, known):
        digest = hashlib.sha256(payload.body)
        for note in payload.notes:
            log.warning("payload noted", url=payload.url, note=note)
        begin_payload(snapshot, payload, start)
        held = counts if run.replay else held  # the breaker of a replay judges payload by payload
        work.chaos.strike("in parse")
        values, refusal = opened(work, payload, snapshot)
        verdict, values = looked_at(work, run, known, payload, values) if start == 0 and payload.head else (Verdict(), values)
        if verdict.refused or verdict.aside:
            run, done = hold(work, run, verdict, payload, digest, values)
            counts, held, cursor, before, snapshot.begun = counts + done, held + done, payload.cursor, payload.done, False
            yield Progress(counts, payload.done, payload.total)
            if verdict.refused and not run.replay:  # a replay passes by what still waits in quarantine as a whole
                raise verdict.refused
            if (left := spend(work, left, done.total)) == 0:
                return
            continue
        for batch, last in ahead(ready(work, payload, digest, cursor, values, start, left)):
            check(work.stop)
            if refused := refusal or invalid(work, run, counts, held, batch):
                if run.replay and payload.head and batch.first == 0:
                    run, done = hold(work, run, Verdict(keep=True), payload, digest, iter(work.source.parse(payload)))
                    counts, verdict = counts + done, Verdict()
                    yield Progress(counts, payload.done, payload.total)
                    break
                yield Progress(counts + keep(work, run, batch), payload.done, payload.total)
                raise refused
            run, done = patiently(work, run, partial(write, work.link.conn, work.source, run, batch))
            counts += done
            add_batch(snapshot, batch)
            log.debug("batch loaded", records=batch.size, position=batch.first)
            yield Progress(counts, payload.done if last else before, payload.total)
            if (left := spend(work, left, batch.size)) == 0:
                return
        note_loaded(work, run, known, verdict)
        cursor, before = payload.cursor, payload.done
        if payload.list_end and snapshot.begun:
            if payload.list_end == "whole" and run.id:
                patiently(work, run, partial(mark_absent, work.link.conn, run, snapshot))
            yield Progress(counts, payload.done, payload.total, snapshot.records)


def patiently(work: Work, run: Run, write: Callable[[], T]) -> T:
    """Do a write of the run, behind the locks of other sessions. Raises Blocked."""
    return behind_locks(write, partial(renew_lease, work.link.conn, run) if run.id else lambda: None, work.stop)


def looked_at(work: Work, run: Run, known: Known, payload: Payload, values: Iterator[Any]) -> tuple[Verdict, Iterator[Any]]:
    """Compare a payload's first records with what its stream sent so far, and give all of them back."""
    head = list(islice(values, PEEK))
    return look(work, run, known, work.source, payload, head), chain(head, values)


def hold(work: Work, run: Run, verdict: Verdict, payload: Payload, digest: Any, values: Iterator[Any]) -> tuple[Run, Counts]:
    """Keep a payload whole instead of loading it: passed by, or left for the next run when the run is refused."""
    if verdict.refused and not verdict.keep and not run.replay:
        return run, Counts()
    batch = Batch(payload, digest.digest(), 0, sum(1 for _ in values), Validated([], []), Position(payload.cursor))
    if work.options.dry_run:
        return run, Counts(quarantined=batch.size)
    if run.replay:
        return run, pass_by(work.link.conn, work.source, run, batch)
    return set_aside(work.link.conn, work.source, run, batch, verdict.drifts, verdict.reason, move=verdict.aside)


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


def ready(
    work: Work, payload: Payload, digest: Any, cursor: Cursor, values: Iterator[Any], start: int, left: int | None
) -> Iterator[tuple[Batch, bool]]:
    """Make batches of values from position `start` on, at most `left` records, ready to be committed; tell which is the payload's last.

    `cursor` is where the source stood before the payload.
    """
    for first, part, last in batches(values, start, work.options.batch_size):
        if left is not None:
            part, last, left = part[:left], last and len(part) <= left, max(left - len(part), 0)
        after = Position(payload.cursor) if last else Position(cursor, pending(payload, digest.hexdigest(), first + len(part)))
        yield stage(Batch(payload, digest.digest(), first, len(part), validate(work.source, part, first), after, work.chaos.strike)), last
        if left == 0:
            return


def stage(batch: Batch) -> Batch:
    """Make a batch's lines now, so that its transaction need not: a thread does so while the batch before is written."""
    with suppress(UnicodeEncodeError):  # raised again where a culprit is looked for
        assert batch.lines is not None
    return batch


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


def invalid(work: Work, run: Run, counts: Counts, held: Counts, batch: Batch) -> Refused | None:
    """The refusal of a batch that makes too many records of the run invalid; payloads held back as a whole do not count.

    A replay takes as many as invalid as runs did that loaded the payload.
    """
    seen, bad = counts.total - held.total + batch.size, counts.quarantined - held.quarantined + len(batch.validated.rejected)
    refused = find_invalid(seen, bad, work.settings.etl_max_invalid_ratio)
    if not refused or not run.replay:
        return refused
    raw_id = find_payload(work.link.conn, work.source, batch)
    if bad <= count_known_invalid(work.link.conn, work.source.name, raw_id):
        return None
    return of_payload(refused, work.source.name, batch.payload, raw_id)


def keep(work: Work, run: Run, batch: Batch) -> Counts:
    """Keep what a refused batch brought, for people to look at; a dry run keeps nothing."""
    if work.options.dry_run:
        return Counts(quarantined=len(batch.validated.rejected))
    return refuse(work.link.conn, work.source, run, batch)


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
    return left - records
