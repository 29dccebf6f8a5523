"""What a crontab says: variables, lines with their times and commands, and when each is due. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NoReturn

from cronsim import CronSim, CronSimError

from shared.errors import SettingsError

VARIABLE = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*)")
LINE = re.compile(r"(\S+(?:\s+\S+){4})\s+(\S.*)")
DELAY = "RANDOM_DELAY"
LONGEST_DELAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Job:
    """One line: when, what, under which variables, and up to how many minutes later than said."""

    number: int
    times: str
    command: str
    variables: tuple[str, ...]
    delay: int

    @property
    def loads(self) -> bool:
        """Whether the line is a run of the ETL: what ETL_INTERVAL_MINUTES and a first run at once are about."""
        return re.search(r"\bkasparro-etl\s+run\b", self.command) is not None


def read_crontab(text: str) -> list[Job]:
    """Read the crontab of a user: `NAME=value` and `m h dom mon dow command` lines. Raises SettingsError that names the line at fault."""
    jobs: list[Job] = []
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if assigned := VARIABLE.fullmatch(stripped):
            variables[assigned[1]] = unquoted(assigned[2])
            continue
        jobs.append(read_job(number, stripped, variables))
    if not jobs:
        raise SettingsError(["crontab: nothing to run in it: write a line such as `0 */6 * * * kasparro-etl run --source all`"])
    return jobs


def read_job(number: int, line: str, variables: dict[str, str]) -> Job:
    """Read one line under the variables set above it. Raises SettingsError."""
    parts = LINE.fullmatch(line)
    if not parts:
        refuse(number, "expected five fields for the time, then a command")
    if "%" in parts[2]:
        refuse(number, "a % ends the command for cron: leave it out")
    try:
        next(CronSim(parts[1], datetime(2024, 1, 1)))
    except (CronSimError, StopIteration) as error:
        refuse(number, f"{str(error) or 'a time that never comes'}: see `man 5 crontab`")
    delay = variables.get(DELAY, "0")
    if not delay.isascii() or not delay.isdigit() or int(delay) > LONGEST_DELAY:
        refuse(number, f"{DELAY}: expected minutes from 0 to {LONGEST_DELAY}")
    return Job(number, parts[1], parts[2], tuple(f"{name}={value}" for name, value in variables.items()), int(delay))


def refuse(number: int, reason: str) -> NoReturn:
    """Raise the error of one line."""
    raise SettingsError([f"crontab line {number}: {reason}"])


def unquoted(value: str) -> str:
    """A variable's value without the quotes around it."""
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] else value


def firings(job: Job, after: datetime, interval: timedelta | None) -> Iterator[datetime]:
    """When a job is due after an instant: by its times, or every `interval` counted from the epoch, so that a restart shifts nothing."""
    if interval is None:
        yield from CronSim(job.times, after)
        return
    start = datetime.fromtimestamp(0, after.tzinfo)
    count = (after - start) // interval
    while True:
        count += 1
        yield start + count * interval


def shortest_gap(job: Job, now: datetime) -> timedelta:
    """The least time between two firings: how often the line runs, whatever days it leaves out."""
    due = CronSim(job.times, now)
    instants = [instant for instant, _ in zip(due, range(50), strict=False)]
    return min((later - earlier for earlier, later in pairwise(instants)), default=timedelta(days=365))
