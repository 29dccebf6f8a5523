"""The wheel is the whole program, and runs from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


def ours() -> set[str]:
    """The top-level packages that setup.cfg lists."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return {name.split(".")[0] for name in config["options"]["packages"].split()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", *ours()):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (folder / "copy").mkdir(exist_ok=True)
        copy(ROOT / name, folder / "copy" / name)
    subprocess.run(
        [*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "copy")], check=True, capture_output=True
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_module_and_statement(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = [path for package in ours() for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".sql")]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= packed


def test_the_wheel_runs_in_another_folder_without_the_checkout(wheel: Path, tmp_path: Path, dsn: str) -> None:
    place = tmp_path / "installed"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(place), str(wheel)], check=True, capture_output=True)
    (tmp_path / "a.csv").write_text("symbol,name,price\nBTC,Bitcoin,1.5\n")
    script = "import sql, etl.cli; print(sql.__file__); etl.cli.main()"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "DATABASE_URL": dsn, "CSV_PATHS": "a.csv"}
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "--source", "csv", "--json"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, *objects = done.stdout.splitlines()
    assert Path(first).is_relative_to(place)
    assert '"records_inserted": 1' in objects[0]


def test_the_locks_name_every_dependency_with_a_hash() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    needed = {"etl.txt": config["options"]["install_requires"], "dev.txt": "".join(config["options.extras_require"].values())}
    for lock, block in needed.items():
        text = (ROOT / "requirements" / lock).read_text()
        names = [line.split(">")[0].split("[")[0].strip() for line in block.splitlines() if line.strip()]
        assert [name for name in names if f"\n{name}==" not in f"\n{text}"] == []
        assert text.count("==") <= text.count("--hash=sha256:")
