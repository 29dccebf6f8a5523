"""The next thing is made while the last one is in use, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from etl.ahead import ahead


def test_items_come_whole_and_in_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter([None, 0, ""]))) == [None, 0, ""]
    assert list(ahead(iter(()))) == []


def test_the_next_item_is_made_while_the_last_is_in_use_and_no_further_one() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in ahead(items()):
        if number + 1 < len(made):
            assert made[number + 1].wait(60)
        assert [event.is_set() for event in made[number + 2 :]] == [False] * len(made[number + 2 :])


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    coming = ahead(items())
    assert [next(coming), next(coming)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(coming)


def test_who_leaves_early_waits_for_what_is_being_made() -> None:
    begun, ended = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        ended.wait(0.2)
        ended.set()
        yield 2

    coming = ahead(items())
    next(coming)
    assert begun.wait(60)
    coming.close()
    assert ended.is_set()


def test_a_run_of_files_imports_no_library_of_the_network() -> None:
    asked = "import sys, etl.commands.run; print(sorted({'requests', 'urllib3', 'backoff', 'feedparser'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout == "[]\n"
