"""The end of a process's run, as the tables tell it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from etl.backfill import store
from etl.backfill.store import Tally
from etl.backfill.work import Work
from etl.errors import SourceError, kind_of
from etl.lease import Counts, Run, get_counts
from etl.work import Outcome
from shared.addresses import printable
from shared.db import reconnect
from shared.errors import DatabaseError
from shared.model import RunStatus

RETRY = 1.0


def close(work: Work, opened: Run, outcome: Outcome) -> tuple[Outcome, Tally]:
    """Close the run: one whose backfill has chunks that were not loaded did not succeed."""
    until = time.monotonic() + work.comeback
    while True:
        try:
            tally = store.get_tally(work.link.conn, work.ids)
            error = outcome.error
            if error is None and (tally.failed or tally.not_allowed):
                error = SourceError(reasons(work, tally))
            counts = get_counts(work.link.conn, opened)
            status = ended_as(outcome.status, counts, error)
            message = printable(work.hide(str(error))) if error else None
            store.close_worker(work.link.conn, opened, status, kind_of(error) if error else None, message)
            return replace(outcome, status=status, counts=counts, error=error), tally
        except DatabaseError as lost:
            if not lost.passing or time.monotonic() > until:
                raise
            time.sleep(RETRY)
            with suppress(DatabaseError):
                reconnect(work.link)


def ended_as(status: RunStatus | None, counts: Counts, error: BaseException | None) -> RunStatus:
    """The status of the run: partial when some records are in quarantine."""
    if status != "success" and status is not None:
        return status
    return "failed" if error else "partial" if counts.quarantined else "success"


def reasons(work: Work, tally: Tally) -> str:
    """One line of why chunks were not loaded."""
    rows = store.list_errors(work.link.conn, work.ids)
    told = "; ".join(f"{row['chunks']} {'chunk' if row['chunks'] == 1 else 'chunks'} {row['state']}: {row['error']}" for row in rows[:5])
    more = f"; and {len(rows) - 5} other reasons" if len(rows) > 5 else ""
    return f"{tally.failed + tally.not_allowed} of {tally.total} chunks were not loaded: {told}{more}"
