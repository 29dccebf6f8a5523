"""Who may import whom, and which module is the door to which library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("etl", "web", "shared", "sql")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

MAY_IMPORT = {"sql": set(), "shared": {"shared", "sql"}, "etl": {"etl", "shared", "sql"}, "web": {"web", "shared", "sql"}}
"""Packages of ours that the modules of a package may import."""

DOORS = {
    "psycopg": (
        "shared/db.py",
        "shared/roles.py",
        "shared/embedded.py",
        "etl/rows.py",
        "etl/lease.py",
        "web/db.py",
        "web/enqueue.py",
        "web/connection.py",
        "web/queries.py",
        "web/statements.py",
    ),
    "requests": ("etl/fetch.py", "etl/exchange.py", "etl/connection.py", "etl/unanswered.py"),
    "urllib3": ("etl/exchange.py", "etl/connection.py", "etl/unanswered.py", "etl/body.py"),
    "backoff": ("etl/fetch.py",),
    "click": ("etl/cli.py", "etl/commands/", "etl/progress.py"),
    "feedparser": ("etl/sources/rss.py",),
    "flask": ("web/",),
}
"""The only modules that may import a library."""

SOURCES_MAY_IMPORT = ("etl.source", "etl.errors", "etl.json_array", "shared")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports, with the line; a relative import shows as a leading dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def breaches(path: Path) -> Iterator[str]:
    package = name(path).split("/")[0]
    for line, module in imports(path):
        top, place = module.split(".")[0], f"{name(path)}:{line} imports {module}"
        if module.startswith("."):
            yield f"{place}: absolute imports only"
        if top in PACKAGES and top not in MAY_IMPORT[package] | {package}:
            yield f"{place}: {package} may not know {top}"
        if top in DOORS and not name(path).startswith(DOORS[top]):
            yield f"{place}: its door is {', '.join(DOORS[top])}"
        if top == "etl" and name(path).startswith("etl/sources/") and name(path) != "etl/sources/__init__.py":
            own = ".".join(name(path).removesuffix(".py").split("/")[:3])
            if not module.startswith((*SOURCES_MAY_IMPORT, own)):
                yield f"{place}: a source knows only the contract"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_keep_to_the_rules(path: Path) -> None:
    assert list(breaches(path)) == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_is_imported_inside_a_function(path: Path) -> None:
    functions = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions for node in ast.walk(f) if isinstance(node, ast.Import | ast.ImportFrom)] == []


@pytest.mark.parametrize("path", [path for path in FILES if name(path) != "shared/settings.py"], ids=name)
def test_only_settings_reads_the_environment(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    asked = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")]
    assert [node.lineno for node in asked if ast.unparse(node) != "request.environ"] == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", "`", ")"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_file_or_function_outgrows_a_reader(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert len(text.splitlines()) <= 230
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno > 50] == []


def test_the_rules_find_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "etl" / "sources" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text("import psycopg\nfrom web import app\nfrom etl.load import load\nfrom . import rss\n")
    monkeypatch.setattr("tests.test_architecture.ROOT" if __name__.startswith("tests.") else f"{__name__}.ROOT", tmp_path)
    assert len(list(breaches(bad))) == 4
