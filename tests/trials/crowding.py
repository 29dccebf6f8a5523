"""A crowd: twenty runs of one source start at the same moment; one works, the others say so and end."""

from __future__ import annotations

import time
from contextlib import ExitStack

from shared.db import connect
from tests.trials.real import command
from tests.trials.resumes import SLOW, Timed
from tests.trials.stage import Stage, holder, until

SIZE = 20


def crowd(stage: Stage) -> Timed:
    """Start them while the one that works is slow, and time those that may not."""
    tally, dsn, started = Timed(), stage.world.copy("blank", "crowd"), time.monotonic()
    with ExitStack() as stack, connect(dsn, "oracle") as conn:
        conn.execute(SLOW.replace(b"0.02", b"0.5"))
        processes = [stack.enter_context(command(stage, dsn, "coingecko", locked="fail")) for _ in range(SIZE)]
        left = set(range(SIZE))

        def all_but_one() -> bool | None:
            for place in [place for place in left if processes[place].poll() is not None]:
                left.discard(place)
                tally.seconds.append(time.monotonic() - started)
            return True if len(left) <= 1 else None

        until(all_but_one)
        working = [place for place in range(SIZE) if place in left]
        codes = [processes[place].returncode for place in range(SIZE) if place not in left]
        wrong = [] if len(working) == 1 and codes == [5] * (SIZE - 1) else [f"{len(working)} worked, the others ended with {codes}"]
        wrong += [] if holder(conn, "coingecko") else ["nobody holds the lease"]
        conn.execute(b"drop trigger slow on etl_batches")
        wrong += [f"the run that worked ended with {code}" for place in working if (code := until(processes[place].poll)) != 0]
    tally.landed = SIZE - 1
    stage.judge(tally, dsn, "coingecko", "a crowd", wrong)
    return tally
