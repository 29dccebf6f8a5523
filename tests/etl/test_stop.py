"""Stopping on request: which signal, which exit code."""

from __future__ import annotations

import os
import signal
import time

import pytest

from etl.cli import exit_code
from etl.errors import Stopped
from etl.stop import check, listening, on_signals


def ask(number: int) -> None:
    """Send this process a signal and be busy for longer than it may take to stop."""
    os.kill(os.getpid(), number)
    time.sleep(20)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_is_cut_short_ends_as_stopped_by_its_signal(number: int, code: int) -> None:
    with pytest.raises(Stopped) as stopped, on_signals(grace=0.05):
        ask(number)
    assert exit_code(stopped.value) == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_wait_for_an_upstream_ends_at_once(number: int, code: int) -> None:
    with pytest.raises(Stopped) as stopped, on_signals() as stop, listening(stop):
        ask(number)
    assert exit_code(stopped.value) == code


def test_between_two_batches_a_request_is_noticed() -> None:
    with on_signals() as stop:
        check(stop)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped) as stopped:
            check(stop)
    assert stopped.value.signal == signal.SIGTERM
