"""The benchmarks run from end to end over a few rows and write what they found; what they found is another matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from benchmarks.reads import spelled
from benchmarks.targets import at_least, at_most
from web.data_query import DataQuery

ROOT = Path(__file__).parent.parent


def test_the_benchmarks_measure_and_write_what_they_found(tmp_path: Path) -> None:
    small = [
        "--only",
        "start",
        "reads",
        "exports",
        "--rows",
        "300",
        "--rounds",
        "1",
        "--seconds",
        "0.01",
        "--without-peers",
        "--into",
        str(tmp_path),
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "benchmarks", *small], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert {len(found[section]) > 0 for section in ("facts", "targets", "start", "reads", "exports", "memory")} == {True}
    assert {each["clients"] for each in found["reads"]} == {1, 16, 64}
    page = (tmp_path / "results.md").read_text()
    assert [title for title in ("# Results", "## Targets", "## Reads", "## Export", "## Start") if title not in page] == []
    assert [each["name"] for each in found["targets"] if each["name"] not in page] == []


def test_one_page_has_so_many_addresses_that_no_cache_holds_them_all() -> None:
    addresses = list(spelled("offset=7"))
    assert len(set(addresses)) == len(addresses) == 8192
    asked = {DataQuery.model_validate(dict(parse_qsl(address.partition("?")[2]))) for address in addresses}
    assert asked == {DataQuery.model_validate({"limit": 100, "offset": 7})}


@pytest.mark.parametrize(("value", "met"), [(1.99, False), (2, True), (2.01, True)])
def test_a_target_is_met_at_its_bound(value: float, met: bool) -> None:
    assert at_least("a ratio", value, 2).met is met
    assert at_most("a time", -value, -2).met is met
