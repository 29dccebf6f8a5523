"""Cron for containers: fires the lines of a crontab in the foreground, as whoever it runs as, its jobs' output on standard output."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from types import FrameType

import structlog

from etl.crontab import Job, firings, shortest_gap

log = structlog.get_logger()

TICK = 1.0
"""Seconds between two looks at jobs that run, and at the clock: one that jumps is noticed."""
SHARE = 0.1
"""The most of the time between two firings that a random delay may take."""
PATIENCE = 9.0
"""Seconds a job may take to stop; `run` takes eight at the most, and platforms kill after ten."""
BACK = timedelta(hours=3)
"""How far a clock is set back before its old times count no more; within it nothing fires twice, as cron has it."""


@dataclass(slots=True)
class Line:
    """A job, how often it fires where its times are replaced, when it is next due and up to how much later, its process if it runs."""

    job: Job
    every: timedelta | None
    due: Iterator[datetime]
    delay: timedelta
    next: datetime
    process: subprocess.Popen[bytes] | None = None


@contextmanager
def on_stop() -> Iterator[SimpleQueue[int]]:
    """Listen to SIGTERM and SIGINT for the length of a block: their numbers come out of the queue, nothing else happens."""
    # Not an Event: one that is set by a handler while its own wait holds its lock never returns.
    stops = SimpleQueue[int]()

    def ask(number: int, _frame: FrameType | None) -> None:
        stops.put(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def attend(
    jobs: list[Job], stops: SimpleQueue[int], interval: timedelta | None, *, at_once: bool, now: Callable[[], datetime] | None = None
) -> int:
    """Fire jobs when they are due until a signal comes out of `stops`, then stop those that run, and give its number.

    A job never overlaps itself.
    """
    clock = now or (lambda: datetime.now(UTC))
    lines = [line_of(job, interval, clock()) for job in jobs]
    for line in lines:
        log.info("job scheduled", line=line.job.number, command=line.job.command, next=line.next.isoformat())
        if at_once and line.job.loads:
            fire(line)
    latest = clock()
    try:
        while True:
            now_is = clock()
            if now_is < latest - BACK:
                begin_again(lines, now_is)
                latest = now_is
            latest = max(latest, now_is)
            for line in lines:
                reap(line)
                if now_is >= line.next:
                    fire(line)
                    move_on(line, now_is)
            with suppress(Empty):
                return stops.get(timeout=min([TICK, *((line.next - now_is).total_seconds() for line in lines)]))
    finally:
        stop(lines)


def line_of(job: Job, interval: timedelta | None, now: datetime) -> Line:
    """Begin to attend to a job. A set interval stands above fields that mean another one, and that is said."""
    gap = shortest_gap(job, now)
    replaced = interval if interval and job.loads and gap != interval else None
    if replaced:
        log.warning("times replaced", line=job.number, times=job.times, every_minutes=int(replaced.total_seconds() // 60))
    delay = min(timedelta(minutes=job.delay), (replaced or gap) * SHARE)
    line = Line(job, replaced, firings(job, now, replaced), delay, now)
    move_on(line, now)
    return line


def begin_again(lines: list[Line], now: datetime) -> None:
    """Count from now on, which is long before what the clock showed."""
    log.warning("clock set back", now=now.isoformat())
    for line in lines:
        line.due = firings(line.job, now, line.every)
        move_on(line, now)


def move_on(line: Line, now: datetime) -> None:
    """Look ahead to the next firing; instants that passed meanwhile are left out."""
    line.next = next(instant for instant in line.due if instant > now)
    line.next += random.random() * line.delay  # noqa: S311


def fire(line: Line) -> None:
    """Start a job, unless it still runs since the last time."""
    reap(line)
    if line.process is not None:
        log.warning("job skipped", line=line.job.number, reason="it still runs: it will be due again")
        return
    command = ["/usr/bin/env", *line.job.variables, "/bin/sh", "-c", line.job.command]
    try:
        line.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        log.error("job failed", line=line.job.number, reason=f"cannot be started ({error.strerror}): it will be due again")
        return
    log.info("job started", line=line.job.number, pid=line.process.pid)


def reap(line: Line) -> None:
    """Note the end of a job."""
    if line.process is None or (code := line.process.poll()) is None:
        return
    say = log.info if code == 0 else log.warning
    say("job ended", line=line.job.number, pid=line.process.pid, exit_code=code if code >= 0 else 128 - code)
    line.process = None


def stop(lines: list[Line]) -> None:
    """Ask the jobs that run to stop, with everything they started; after PATIENCE end what is left."""
    groups = [line.process.pid for line in lines if line.process]
    until = time.monotonic() + PATIENCE
    left = tell(groups, signal.SIGTERM)
    while left and time.monotonic() < until:
        time.sleep(0.05)
        for line in lines:
            reap(line)
        left = tell(left, 0)
    tell(left, signal.SIGKILL)


def tell(groups: list[int], number: int) -> list[int]:
    """Send a signal to all processes of some jobs, 0 for none; return the jobs that have any. A shell may end before what it started."""
    found = []
    for group in groups:
        bury(group)
        with suppress(ProcessLookupError):
            os.killpg(group, number)
            found.append(group)
    return found


def bury(group: int) -> None:
    """Take note of ended processes that a job's shell left to us, as to the first process of a container; not of the shell itself."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != group:
            os.waitpid(ended.si_pid, 0)
