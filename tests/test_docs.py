"""What README and docs show is what the program does: commands, help, settings, the page on adding a source."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from etl.chaos import Chaos
from etl.execute import run
from etl.sources import SOURCES
from etl.stop import Stop
from etl.work import Options, Work
from shared.db import Connection, linked
from shared.settings import Settings, read_settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = sorted({line for page in PAGES for kind, text in FENCE.findall(page.read_text()) if kind == "sh" for line in text.splitlines()})
LOOKING_BACK = ("replay", "runs show", "runs compare", "prune")
"""What only shows something once something ran."""
VARIABLE = re.compile(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$")


@pytest.fixture
def sample(tmp_path: Path) -> None:
    """The sample file where the default of CSV_PATHS looks for it."""
    shutil.copytree(ROOT / "data", tmp_path / "data")


@pytest.mark.parametrize("line", [line for line in COMMANDS if "kasparro-etl" in line])
@pytest.mark.usefixtures("sample")
def test_a_command_shown_runs(etl: Any, offline: dict[str, str], line: str) -> None:
    *assignments, _program = (words := shlex.split(line))[: words.index("kasparro-etl") + 1]
    told = dict(assignment.split("=", 1) for assignment in assignments)
    if any(part in line for part in LOOKING_BACK):
        assert etl("run", "--source", "all", **offline).code == 0
    done = etl(*words[len(assignments) + 1 :], **offline | told)
    assert done.code in ((0, 3) if "doctor" in words else (0,)), done.err  # a server for tests is not a durable one


@pytest.mark.parametrize("line", [line for line in COMMANDS if "kasparro-etl" not in line])
def test_what_else_is_shown_is_a_target_of_make_or_a_setting(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "export":
        read_settings({words[1].split("=")[0]: words[1].split("=", 1)[1]})
        return
    assert words[0] == "make"
    subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def test_make_run_loads_all_sources(offline: dict[str, str], dsn: str, conn: Connection, tmp_path: Path) -> None:
    installed = Path(sys.executable).parent.parent
    command = ["make", f"VENV={installed}", "-o", str(installed / "installed"), "run"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": dsn, **offline}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sources = [row["source"] for row in conn.execute("select source from etl_runs where status = 'success' order by id").fetchall()]
    assert sources == list(SOURCES)


def test_the_help_in_readme_is_the_programs(etl: Any) -> None:
    assert etl("--help").out.strip() in (ROOT / "README.md").read_text()


def test_the_example_environment_names_every_setting_with_its_default() -> None:
    lines = [VARIABLE.match(line) for line in (ROOT / ".env.example").read_text().splitlines()]
    told = {match[1]: match[2] for match in lines if match}
    assert set(told) == {name.upper() for name in Settings.model_fields}
    shown = {match[1]: match[2] for match in lines if match and not match[0].startswith("#")}
    defaults = Settings()
    assert read_settings(shown) == defaults
    unset = {name.upper() for name, field in Settings.model_fields.items() if field.default is None}
    assert set(shown) == set(told) - unset


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_dependency_is_in_readmes_table() -> None:
    config = (ROOT / "setup.cfg").read_text()
    block = config[config.index("install_requires") : config.index("[options.entry_points]")]
    names = re.findall(r"^    ([a-z0-9-]+)", block, re.MULTILINE)
    table = (ROOT / "README.md").read_text().split("## Dependencies")[1]
    assert [name for name in names if not re.search(rf"\b{name}\b", table)] == []


def test_the_page_on_adding_a_source_can_be_followed(
    conn: Connection, dsn: str, tmp_path: Path, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = [text for kind, text in FENCE.findall((ROOT / "docs" / "adding-a-source.md").read_text()) if kind == "python"]
    file = tmp_path / "rates.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location("rates", file)
    assert spec
    assert spec.loader
    rates = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "rates", rates)
    spec.loader.exec_module(rates)
    monkeypatch.setattr(rates, "URL", f"{upstream.url}/rates")
    upstream.answers["/rates"] = (
        200,
        {"ETag": '"7"'},
        b'[{"code": "EUR", "usd": 1.10, "at": "2026-01-01T00:00:00Z"}, {"code": "", "usd": 1}]',
    )
    with linked(dsn, "tests") as link:
        work = Work(link, rates.SOURCE, Settings(), Options(100), Stop(), lambda _: None, lambda text: text, Chaos())
        assert run(work).status == "partial"
        assert conn.execute("select external_id, price_usd::text, category from unified_data").fetchall() == [
            {"external_id": "eur", "price_usd": "1.10", "category": "fiat"}
        ]
        rate = b'[{"code": "USD", "usd": %b}]'
        for usd, opened in ((b'"one"', 2), (b"1", 1)):
            upstream.answers["/rates"] = (200, {"ETag": '"7"'}, rate % usd)
            assert run(work).status == ("success" if usd == b"1" else "partial")
            assert conn.execute("select count(*) as n from quarantined_records where resolved_at is null").fetchone() == {"n": opened}
        upstream.answers["/rates"] = (304, {}, b"")
        assert run(work).status == "success"
    assert upstream.log[-1]["headers"]["if-none-match"] == '"7"'
