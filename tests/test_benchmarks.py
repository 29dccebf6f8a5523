"""Every section of the benchmarks runs over a few rows and tells what it found; what it found is another matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from benchmarks import loaders
from benchmarks.__main__ import keep
from benchmarks.bench import Bench
from benchmarks.cpu import cpu_of_tree, find_postmaster, measured
from benchmarks.csv_load import write
from benchmarks.databases import fresh
from benchmarks.payloads import store
from benchmarks.reads import spelled
from benchmarks.sections import SECTIONS
from benchmarks.svg import Axis, chart
from benchmarks.targets import at_least, at_most
from benchmarks.upstream import bodies, serve
from shared.db import connect
from web.data_query import DataQuery

ROOT = Path(__file__).parent.parent
ENV = {"PATH": os.environ["PATH"]}
ABOUT = {"machine": "one", "Python": "3", "Postgres": "18", "ours": "a", "peers": "b", "load before": "none"}
ABOUT |= {"measured": "2026-03-01 10:00 UTC", "command": "python -m benchmarks"}


@pytest.fixture
def bench(server: str, embedded_home: Path) -> Iterator[Bench]:
    """A few rows, one round, nothing installed; what sections share is dropped."""
    embedded_home.mkdir()
    yield Bench(server, embedded_home, 300, 1, 1, 0.01, 300, with_peers=False)
    with connect(server, "tests") as conn:
        for row in conn.execute("select datname from pg_database where starts_with(datname, %s)", [f"bench_{os.getpid()}_"]).fetchall():
            conn.execute(f"drop database {row['datname']} with (force)".encode())


def section(found: Any, **facts: Any) -> dict[str, Any]:
    """A section as it is kept."""
    return {"about": {**ABOUT, "rows": 300, "rounds": 1, "minutes": 0.1, **facts}, "found": found}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_measures_and_tells(name: str, bench: Bench, tmp_path: Path) -> None:
    found = SECTIONS[name].measure(bench)
    keep(tmp_path, {name: section(found)})
    stored = json.loads((tmp_path / "results.json").read_text())
    page = (tmp_path / "results.md").read_text()
    assert list(stored["sections"]) == [name]
    assert [target["name"] for target in stored["targets"] if target["name"] not in page] == []
    drawn = sorted(file.name for file in (tmp_path / "charts").glob("*.svg")) if (tmp_path / "charts").exists() else []
    assert [file for file in drawn if f"(charts/{file})" not in page] == []
    assert page.count("![") == len(drawn)


def test_the_command_measures_what_it_is_asked_for(tmp_path: Path) -> None:
    small = ["--only", "start", "--rows", "100", "--rounds", "1"]
    env = ENV | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *small, "--into", str(tmp_path / "new")],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "new" / "results.json").read_text())["sections"]["start"]
    assert found["about"]["command"] == f"python -m benchmarks {' '.join(small)}"
    assert min(found["found"].values()) > 0


def test_a_section_that_is_measured_again_replaces_itself_alone(tmp_path: Path) -> None:
    start = {"python -c pass": 0.1, "kasparro-etl --version": 0.2, "kasparro-etl run, first output": 0.2}
    queues = {"stats": [{"runs": 100, "p50": 1.0, "p99": 2.0}], "claims": [{"chunks": 100, "first": 1.0, "last": 1.0}]}
    keep(tmp_path, {"start": section(start)})
    keep(tmp_path, {"queues": section(queues, measured="2026-03-02 10:00 UTC", machine="two")})
    keep(tmp_path, {"start": section(start | {"kasparro-etl --version": 0.4}, measured="2026-03-03 10:00 UTC")})
    stored = json.loads((tmp_path / "results.json").read_text())
    page = (tmp_path / "results.md").read_text()
    assert list(stored["sections"]) == ["start", "queues"]
    assert {target["name"]: target["met"] for target in stored["targets"]} == {
        "kasparro-etl --version, beyond python -c pass": False,
        "first output of run": True,
        "/stats with 100 runs, one client, median": True,
    }
    assert "2026-03-03 10:00 UTC" in page
    assert "Sections not measured yet: reads, exports, beside, csv, memory, loaders, payloads, backfills, growth." in page
    assert "2026-03-02 10:00 UTC, 0.1 minutes; load before: none; machine: two." in page


def test_a_peer_that_cannot_be_had_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "MANY", {"ours": loaders.ours, "pgloader": loaders.pgloader})
    monkeypatch.setattr(loaders, "RECORDWISE", {})
    monkeypatch.setattr(loaders, "psql", loaders.ours)
    monkeypatch.setenv("PATH", str(bench.folder))
    wanted = Bench(bench.dsn, bench.folder, bench.rows, 1, 1, 0.01, bench.most, with_peers=True)
    found = loaders.measure(wanted)
    assert found["absent"] == {"pgloader": "pgloader is not installed on this machine"}
    assert any("Not measured: pgloader: pgloader is not installed on this machine." in part for part in loaders.tell(found))


def test_a_peer_stores_the_same_records_from_an_address_and_from_a_file(bench: Bench, tmp_path: Path) -> None:
    write(tmp_path / "some.csv", 30)
    with serve(bodies(20)) as upstream, fresh(bench.dsn) as dsn, connect(dsn, "tests") as conn:
        for place, records in ((f"{upstream.url}/coinpaprika/tickers", 20), (str(tmp_path / "some.csv"), 30)):
            store(dsn, loaders.executemany, place)
            row = conn.execute("select count(*) as records, count(price) as priced from peer").fetchone()
            assert row == {"records": records, "priced": records}


def test_the_cost_of_a_command_is_that_of_both_sides(server: str) -> None:
    busy = "import sys; x = bytearray(60 << 20); [n * n for n in range(3_000_000)]; sys.exit(int(sys.argv[1]))"
    one = measured([sys.executable, "-c", busy, "0"], ENV, server)
    two = measured([sys.executable, "-c", busy, "0"], ENV, server, times=2)
    assert one.client_cpu > 0.05
    assert one.memory > 60
    assert two.memory > 1.9 * one.memory
    before = cpu_of_tree(find_postmaster(server))
    with connect(server, "tests") as conn:
        conn.execute("select sum(sqrt(n)) from generate_series(1, 1000000) n")
    assert cpu_of_tree(find_postmaster(server)) - before > 0.02
    with pytest.raises(RuntimeError, match="ended with 3"):
        measured([sys.executable, "-c", busy, "3"], ENV, server)


def test_a_chart_is_well_formed_and_marks_its_axes() -> None:
    drawn = chart("Cost & size", "rows", "seconds", {"ours": [(10_000, 0.5), (1_000_000, 0.6)]})
    texts = [element.text for element in ET.fromstring(drawn).iter() if element.tag.endswith("text")]
    assert texts == ["Cost & size", "0", "0.2", "0.4", "0.6", "10,000", "100,000", "1,000,000", "rows", "seconds", "ours"]
    assert Axis("rows", 10, 1000, log=True).share(100) == 0.5


def test_one_page_has_so_many_addresses_that_no_cache_holds_them_all() -> None:
    addresses = list(spelled("offset=7"))
    assert len(set(addresses)) == len(addresses) == 8192
    asked = {DataQuery.model_validate(dict(parse_qsl(address.partition("?")[2]))) for address in addresses}
    assert asked == {DataQuery.model_validate({"limit": 100, "offset": 7})}


@pytest.mark.parametrize(("value", "met"), [(1.99, False), (2, True), (2.01, True)])
def test_a_target_is_met_at_its_bound(value: float, met: bool) -> None:
    assert at_least("a ratio", value, 2).met is met
    assert at_most("a time", -value, -2).met is met
