# Everything a person or CI types. `make help` lists it.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: help run test trials trials-full lint lock clean ready
.DEFAULT_GOAL := help

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: ready ## set up if needed, then load all sources into Postgres
	@echo "kasparro-etl run --source all   (seconds; about a minute where upstreams cannot be reached)"
	@$(BIN)/kasparro-etl run --source all

test: ready ## set up if needed, then run the tests on a Postgres of their own
	@echo "running the tests (one to three minutes)"
	@$(BIN)/python -m pytest -q

trials: ready ## kill, stop and cut runs, resume them, compare with a clean run (five minutes)
	@$(BIN)/python -m tests.trials --every 10
	@$(BIN)/python -m tests.trials.real --seed 3
	@$(BIN)/python -m tests.trials.real --seed 3 --mutant no-fence
	@$(BIN)/python -m tests.trials --every 5 --kinds rss --mutant checkpoint-apart
	@$(BIN)/python -m tests.trials --every 5 --kinds rss --mutant checkpoint-first
	@$(BIN)/python -m tests.trials --every 5 --kinds rss --mutant counters-late

trials-full: ready ## the same at every point (an hour)
	@$(BIN)/python -m tests.trials
	@$(BIN)/python -m tests.trials.real --full
	@$(BIN)/python -m tests.trials.real --mutant no-fence
	@$(BIN)/python -m tests.trials.mutations --count 1000000 --seed 1

# An environment that was damaged since is made anew.
ready: $(STAMP)
	@$(BIN)/python -c 'import etl.cli, pytest' 2>/dev/null || { echo "$(VENV) is damaged: making it anew"; rm -rf $(VENV); $(MAKE) --no-print-directory $(STAMP); }

lint: $(STAMP) ## ruff, mypy strict, one shape of code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lock: $(STAMP) ## pin again what Docker and CI install
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile -q setup.cfg --universal --python-version 3.11 --generate-hashes --no-header -o requirements/etl.txt
	@$(BIN)/uv pip compile -q setup.cfg --extra embedded --extra dev --universal --python-version 3.11 --generate-hashes --no-header \
		--allow-unsafe -o requirements/dev.txt

clean: ## remove the virtual environment and caches; data stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# The stamp is written last, so an environment left half-made is made anew.
$(STAMP): setup.cfg pyproject.toml requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 is needed: install one, or name it: make PYTHON=/path/to/python3.12 run" >&2; exit 2; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version) (about a minute, once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment: install the venv package of your Python (Debian: python3-venv)" >&2; exit 2; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
