"""What is shipped beside the code agrees with it: images, compose, manifests, workflows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from textwrap import dedent

import click
import pytest

from etl.cli import cli
from shared.settings import Settings

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
SETTINGS = {name.upper() for name in Settings.model_fields}
GIVEN_OTHERWISE = {"DATABASE_URL", "API_DATABASE_URL", "API_KEY", "KASPARRO_HOME", "HOST", "PORT"}
"""Settings that compose hands over as files, or that are about one machine without containers."""


def test_compose_hands_over_every_setting() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    passed = {name for name, given in re.findall(r"^  +(\w+): \$\{(\w+):-\}$", text, re.MULTILINE) if name == given}
    assert passed == {name.upper() for name in Settings.model_fields} - GIVEN_OTHERWISE


def test_both_images_are_built_the_same_way() -> None:
    stages = [re.split(r"^FROM ", (ROOT / f"Dockerfile.{part}").read_text(), flags=re.MULTILINE)[1:] for part in ("etl", "api")]
    assert [len(parts) for parts in stages] == [3, 3]
    assert stages[0][:2] == stages[1][:2]


@pytest.mark.parametrize("part", ["etl", "api"])
def test_the_base_is_named_where_dependabot_can_renew_it(part: str) -> None:
    froms = re.findall(r"^FROM (.*)", (ROOT / f"Dockerfile.{part}").read_text(), re.MULTILINE)
    assert re.fullmatch(r"python:3\.13-slim-bookworm(@sha256:[0-9a-f]{64})? AS base", froms[0])
    assert froms[1:] == ["base AS build", "base"]
    assert "package-ecosystem: docker\n    directory: /\n" in (ROOT / ".github" / "dependabot.yml").read_text()


@pytest.mark.parametrize("part", ["etl", "api"])
def test_an_image_says_what_it_is(part: str) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="(.*)"', (ROOT / f"Dockerfile.{part}").read_text()))
    assert set(labels) == {"title", "description", "licenses", "version", "revision"}
    assert labels["title"] == f"kasparro-{part}"
    assert "org.opencontainers.image.source=" in (ROOT / ".github" / "workflows" / "deploy.yml").read_text()


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


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_there_is(file: Path) -> None:
    text = file.read_text()
    targets = re.findall(r"run: make ([\w-]+)", text)
    subprocess.run(["make", "--dry-run", *(targets or ["help"])], cwd=ROOT, check=True, capture_output=True)
    scripts = re.findall(r"run: .*(\.ci/\w+)", text)
    assert [script for script in scripts if not os.access(ROOT / script, os.X_OK)] == []


def test_help_lists_every_target_a_person_types() -> None:
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    told = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in told.splitlines()} == set(phony[1].split()) - {"ready"}


def test_ci_tests_every_python_and_postgres_that_is_supported() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    pythons = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text())
    matrix = {
        name: re.findall(r'"([\d.]+)"', versions)
        for name, versions in re.findall(r"^        (python|postgres): \[(.*)\]", text, re.MULTILINE)
    }
    assert matrix == {"python": pythons, "postgres": ["15", "16", "17"]}
    assert [pythons[0], pythons[-1]] == ["3.11", "3.13"]


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_gives_settings_by_their_names(file: Path) -> None:
    text = file.read_text()
    given = set(re.findall(r"- name: ([A-Z][A-Z_]+)$", text, re.MULTILINE)) | set(re.findall(r"^  ([A-Z][A-Z_]+): ", text, re.MULTILINE))
    assert {name.removesuffix("_FILE") for name in given} <= SETTINGS
    assert given or "image:" not in text


def test_terraform_gives_settings_by_their_names() -> None:
    text = (ROOT / "deploy" / "gcp" / "run.tf").read_text()
    given = {name.removesuffix("_FILE") for name in re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\s+=", text)}
    assert given - {"ETL_ADDRESS", "API_ADDRESS"} <= SETTINGS  # these two only mount a file
    assert {"DATABASE_URL", "API_DATABASE_URL", "API_KEY", "ETL_INTERVAL_MINUTES"} <= given


def test_terraform_refers_to_what_it_declares_and_declares_what_it_refers_to() -> None:
    text = "\n".join(
        re.sub(r"(^|\s)#.*", "", path.read_text(), flags=re.MULTILINE) for path in sorted((ROOT / "deploy" / "gcp").glob("*.tf"))
    )
    variables = set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == variables
    resources = {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', text, re.MULTILINE)}
    used = set(re.findall(r"(?<![\w.\"/])((?:google|random)_\w+\.\w+)", text))
    assert used
    assert used <= resources
    blocks = "\n".join(re.findall(r"^locals \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
    assert set(re.findall(r"\blocal\.(\w+)", text)) == set(re.findall(r"^  (\w+)\s*=", blocks, re.MULTILINE))


def test_every_command_of_an_image_is_one_of_the_program() -> None:
    texts = [
        path.read_text() for path in (*MANIFESTS, ROOT / "deploy" / "gcp" / "run.tf", ROOT / "docker-compose.yml", ROOT / "Dockerfile.etl")
    ]
    told = re.findall(r"(?:args|command):?\s*=?\s*\[\"?(\w+)|^CMD \[\"(\w+)", "\n".join(texts), re.MULTILINE)
    commands = {first or second for first, second in told} - {"sleep"}
    assert commands == {"run", "worker", "migrate", "backfill", "schedule"}
    assert commands <= set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("page", ["deployment.md", "cron.md"])
def test_the_commands_of_a_page_are_bash(page: str) -> None:
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        subprocess.run(["bash", "-n"], input=dedent(block), check=True, capture_output=True, text=True)


def test_every_schedule_is_the_default_interval() -> None:
    hours = Settings().etl_interval_minutes // 60
    assert f"0    */{hours}  *   *   *    exec kasparro-etl run " in (ROOT / "crontab").read_text()
    assert f'schedule: "7 */{hours} * * *"' in (ROOT / "deploy" / "kubernetes" / "etl.yaml").read_text()
    assert f'ETL_INTERVAL_MINUTES: "{hours * 60}"' in (ROOT / "deploy" / "kubernetes" / "config.yaml").read_text()
    assert f"default     = {hours * 60}\n" in (ROOT / "deploy" / "gcp" / "variables.tf").read_text()
