"""The scheduler: lines of a crontab fire when they are due, never overlap themselves, and end with it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

import pytest
from structlog.testing import capture_logs

from etl.crontab import Job, firings, read_crontab, shortest_gap
from etl.schedule import attend, line_of
from shared.errors import SettingsError

ROOT = Path(__file__).parent.parent.parent
NOON = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler looks many times a second, as the clock of a test jumps."""
    monkeypatch.setattr("etl.schedule.TICK", 0.02)


def job(times: str = "* * * * *", command: str = "true", delay: int = 0) -> Job:
    return Job(1, times, command, (), delay)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def attending(jobs: list[Job], clock: Clock, *, at_once: bool = False, interval: timedelta | None = None) -> Iterator[None]:
    """Attend to jobs in a thread for the length of a block."""
    stops = SimpleQueue[int]()
    thread = threading.Thread(target=attend, args=(jobs, stops, interval), kwargs={"at_once": at_once, "now": clock})
    thread.start()
    try:
        yield
    finally:
        stops.put(signal.SIGTERM)
        thread.join(30)
        assert not thread.is_alive()


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)


def count(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_the_repositorys_crontab_runs_all_sources_every_six_hours_with_jitter() -> None:
    (line,) = read_crontab((ROOT / "crontab").read_text())
    assert [at.hour for at in islice(firings(line, NOON, None), 4)] == [18, 0, 6, 12]
    assert (line.delay, line.loads) == (5, True)
    assert "--if-locked=skip" in line.command


def test_variables_reach_the_lines_below_them() -> None:
    first, second = read_crontab('A=1\n0 1 * * * one\n\n# b\nA = "x y"\nRANDOM_DELAY=7\n0 2 * * *  two  three\n')
    assert (first.variables, first.delay, first.command) == (("A=1",), 0, "one")
    assert (second.variables, second.delay, second.command) == (("A=x y", "RANDOM_DELAY=7"), 7, "two  three")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing to run"),
        ("@daily true", "line 1: expected five fields"),
        ("\n0 25 * * * true", "line 2: Bad hour"),
        ("0 0 30 2 * true", "line 1: "),
        ("* * * * * date +%s", "line 1: a %"),
        ("RANDOM_DELAY=soon\n* * * * * true", "line 2: RANDOM_DELAY"),
    ],
)
def test_a_line_that_cannot_be_run_is_named(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_crontab(text)


@pytest.mark.parametrize(
    ("times", "gap"), [("0 */6 * * *", 6 * 60), ("*/5 * * * *", 5), ("30 7 * * *", 24 * 60), ("0 9 * * 1-5", 24 * 60), ("0,10 * * * *", 10)]
)
def test_how_often_a_line_runs_is_its_shortest_gap(times: str, gap: int) -> None:
    assert shortest_gap(job(times), NOON) == timedelta(minutes=gap)


def test_an_interval_counts_from_the_same_instant_after_every_restart() -> None:
    early = list(islice(firings(job(), NOON, 90 * MINUTE), 2))
    late = list(islice(firings(job(), NOON + MINUTE, 90 * MINUTE), 2))
    assert early == late == [datetime(2026, 3, 1, 13, 30, tzinfo=UTC), datetime(2026, 3, 1, 15, 0, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("command", "interval", "due"),
    [
        ("kasparro-etl run --source all", None, "18:00"),
        ("kasparro-etl run --source all", 60, "13:00"),
        ("kasparro-etl run --source all", 360, "18:00"),
        ("kasparro-etl prune --raw-older-than 90d", 60, "18:00"),
    ],
)
def test_a_set_interval_replaces_the_times_of_runs_that_mean_another(command: str, interval: int | None, due: str) -> None:
    line = line_of(job("0 */6 * * *", command), timedelta(minutes=interval) if interval else None, NOON)
    assert f"{line.next:%H:%M}" == due


def test_jitter_delays_a_firing_by_no_more_than_it_says() -> None:
    nexts = {line_of(job("0 18 * * *", delay=5), None, NOON).next for _ in range(200)}
    assert len(nexts) > 100
    assert all(timedelta(0) <= at - NOON.replace(hour=18, minute=0, second=0) <= 5 * MINUTE for at in nexts)


def test_jitter_takes_no_more_than_a_tenth_of_the_time_between_two_firings() -> None:
    nexts = {line_of(job("* * * * *", delay=5), None, NOON).next for _ in range(200)}
    assert all(timedelta(0) <= at - NOON.replace(minute=1, second=0) <= MINUTE / 10 for at in nexts)


def test_a_minutely_line_fires_each_minute_and_its_output_is_ours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clock, told, said = Clock(), tmp_path / "told", list[str]()

    def ended() -> int:
        said.append(capfd.readouterr().out)
        return "".join(said).count("job ended")

    with attending([Job(1, "* * * * *", f"echo out; echo err >&2; echo $A >> {told}", ("A=b c",), 0)], clock):
        for minute in (1, 2, 3):
            clock.now = NOON + minute * MINUTE
            wait_for(lambda minute=minute: ended() == minute)  # type: ignore[misc]
    assert told.read_text() == "b c\n" * 3
    assert "out\nerr\n" in "".join(said)


def test_minutes_that_passed_unseen_count_once(tmp_path: Path) -> None:
    clock, told = Clock(), tmp_path / "told"
    with attending([job(command=f"echo >> {told}")], clock):
        clock.now = NOON + 90 * MINUTE
        wait_for(lambda: count(told) == 1)
        time.sleep(1.2)
    assert count(told) == 1


def test_a_job_never_overlaps_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clock, told, go = Clock(), tmp_path / "told", tmp_path / "go"
    with attending([job(command=f"echo >> {told}; while ! [ -e {go} ]; do sleep 0.05; done")], clock):
        clock.now = NOON + MINUTE
        wait_for(lambda: count(told) == 1)
        clock.now = NOON + 2 * MINUTE
        wait_for(lambda: "job skipped" in capfd.readouterr().out)
        go.touch()
        wait_for(lambda: "job ended" in capfd.readouterr().out)
        clock.now = NOON + 3 * MINUTE
        wait_for(lambda: count(told) == 2)
    assert count(told) == 2


def test_only_runs_of_the_etl_start_at_once(tmp_path: Path) -> None:
    loads, other = tmp_path / "loads", tmp_path / "other"
    with attending([job("0 0 1 1 *", f"echo >> {other}"), job("0 0 1 1 *", f"echo kasparro-etl run >> {loads}")], Clock(), at_once=True):
        wait_for(lambda: count(loads) == 1)
    assert not other.exists()


def test_a_stop_reaches_what_a_job_started_and_waits_for_its_clean_end(tmp_path: Path) -> None:
    clock, told = Clock(), tmp_path / "told"
    script = f"trap 'sleep 0.3; echo ended >> {told}; exit 0' TERM; echo began >> {told}; while :; do sleep 0.05; done"
    with attending([job(command=script)], clock):
        clock.now = NOON + MINUTE
        wait_for(lambda: count(told) == 1)
    assert told.read_text() == "began\nended\n"


def test_what_a_shell_started_is_waited_for_when_the_shell_has_gone(tmp_path: Path) -> None:
    told, clock = tmp_path / "told", Clock()
    script = tmp_path / "slow.py"
    script.write_text(
        f"import signal, sys, time\ntold = open({str(told)!r}, 'a', buffering=1)\n"
        "def end(*_):\n    time.sleep(1)\n    print('ended', file=told)\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('began', file=told)\nwhile True:\n    time.sleep(0.05)\n"
    )
    with attending([job(command=f"{sys.executable} {script}; true")], clock):
        clock.now += MINUTE
        wait_for(lambda: count(told) == 1)
    assert told.read_text().split() == ["began", "ended"]


def test_a_clock_that_is_set_back_by_years_does_not_silence_a_job_for_years(tmp_path: Path) -> None:
    told, clock = tmp_path / "told", Clock()
    with capture_logs() as logged, attending([job(command=f"echo fired >> {told}")], clock):
        clock.now += MINUTE
        wait_for(lambda: count(told) == 1)
        clock.now -= timedelta(days=2000)
        wait_for(lambda: "clock set back" in [line["event"] for line in logged])
        clock.now += MINUTE
        wait_for(lambda: count(told) == 2)
        clock.now += MINUTE
        wait_for(lambda: count(told) == 3)
