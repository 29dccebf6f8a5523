"""What is shipped beside the code agrees with it: images, compose, manifests, workflows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.settings import Settings

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GIVEN_OTHERWISE = {"DATABASE_URL", "API_DATABASE_URL", "API_KEY", "KASPARRO_HOME", "HOST", "PORT"}
"""Settings that compose hands over as files, or that are about one machine without containers."""


def test_compose_hands_over_every_setting() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    passed = {name for name, given in re.findall(r"^  +(\w+): \$\{(\w+):-\}$", text, re.MULTILINE) if name == given}
    assert passed == {name.upper() for name in Settings.model_fields} - GIVEN_OTHERWISE


def test_both_images_are_built_the_same_way() -> None:
    stages = [(ROOT / f"Dockerfile.{part}").read_text().split("FROM ${PYTHON}") for part in ("etl", "api")]
    assert [len(parts) for parts in stages] == [3, 3]
    assert stages[0][1] == stages[1][1]


@pytest.mark.parametrize("part", ["etl", "api"])
def test_an_image_takes_nothing_that_is_not_pinned_by_hash_and_runs_as_nobody_in_particular(part: str) -> None:
    text = (ROOT / f"Dockerfile.{part}").read_text()
    installs = re.findall(r"pip (?:install|wheel|--python \S+ install) (.*)", text)
    assert installs
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert "USER 10001:10001" in text
    for lock in re.findall(r"-r (requirements/\S+)", text):
        pins = (ROOT / lock).read_text()
        assert pins.count("==") <= pins.count("--hash=sha256:")


def test_the_image_gets_every_package() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    config = (ROOT / "setup.cfg").read_text()
    packages = config[config.index("packages =") : config.index("install_requires")].split()[2:]
    assert {f"!{name.split('.')[0]}" for name in packages} <= set(allowed)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_nothing_is_permitted_by_default(file: Path) -> None:
    text = file.read_text()
    used = re.findall(r"uses: (.*)", text)
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action)] == []
    assert "\npermissions: {}\n" in text


def test_every_schedule_is_the_default_interval() -> None:
    hours = Settings().etl_interval_minutes // 60
    assert f"0    */{hours}  *   *   *    exec kasparro-etl run " in (ROOT / "crontab").read_text()
    assert f'schedule: "7 */{hours} * * *"' in (ROOT / "deploy" / "kubernetes" / "etl.yaml").read_text()
    assert f'ETL_INTERVAL_MINUTES: "{hours * 60}"' in (ROOT / "deploy" / "kubernetes" / "config.yaml").read_text()
    assert f"default     = {hours * 60}\n" in (ROOT / "deploy" / "gcp" / "variables.tf").read_text()
