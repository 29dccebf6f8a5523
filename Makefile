# Everything a person or CI types. `make help` lists it.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
ROWS ?= 1000000
HERE = http://$$($(COMPOSE) port api 8000 2>/dev/null || echo 127.0.0.1:$${PORT:-8000})
KUBERNETES := $(filter-out deploy/kubernetes/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))

.PHONY: help run serve test screenshots trials trials-full lint lock clean ready up down logs smoke test-coverage bench
.DEFAULT_GOAL := help

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

run: ready ## set up if needed, then load all sources into Postgres
	@echo "kasparro-etl run --source all   (seconds; about a minute where upstreams cannot be reached)"
	@$(BIN)/kasparro-etl run --source all

serve: ready ## serve the API from the same Postgres, on HOST and PORT (127.0.0.1:8000)
	@echo "API on http://$${HOST:-127.0.0.1}:$${PORT:-8000}   (Ctrl-C ends it; try /health, /docs)"
	@exec $(BIN)/gunicorn -c python:web.gunicorn_conf web.wsgi:app

test: ready ## set up if needed, then run the tests on a Postgres of their own
	@echo "running the tests (about ten minutes)"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-coverage: ready ## the tests, and which lines they reach
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --show-missing

# Two at a time, the longest first, each with a server and upstreams of its own; what one of them tells is printed when it has ended.
trials: ready ## kill, stop and cut runs, resume them, compare with a clean run (three minutes)
	@printf '%s\n' \
		'tests.trials --every 25' \
		'tests.trials.real --seed 3' \
		'tests.trials --every 5 --kinds rss --mutant checkpoint-apart' \
		'tests.trials --every 5 --kinds rss --mutant checkpoint-first' \
		'tests.trials --every 5 --kinds rss --mutant counters-late' \
		'tests.trials.real --seed 3 --mutant no-fence' \
		| xargs -P 2 -I '{}' sh -c 'told=$$($(BIN)/python -m {} 2>&1); code=$$?; printf "python -m %s\n%s\n\n" "{}" "$$told"; exit $$code'

trials-full: ready ## the same at every point, and how long things take, and what upstreams may do (two hours)
	@$(BIN)/python -m tests.trials
	@$(BIN)/python -m tests.trials.real --full
	@$(BIN)/python -m tests.trials.real --mutant no-fence
	@$(BIN)/python -m tests.trials.mutations --count 1000000 --seed 1
	@$(BIN)/python -m tests.trials.timing --rounds 200 --seed 11
	@$(BIN)/python -m tests.trials.faults

screenshots: ready ## pictures of every page into build/screenshots, and the two of docs/dashboard.md
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { echo "a browser is needed: apt-get install chromium chromium-driver" >&2; exit 2; }
	@$(BIN)/python -m tests.browser.screenshots

up: ## Postgres, ETL, worker and API in containers; nothing but Docker is needed
	@REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(COMPOSE) up --build --detach
	@echo "API on $(HERE)   (the first load is under way; make smoke, make logs, make down)"

down: ## stop the containers; data stays
	@$(COMPOSE) down

logs: ## follow what the containers say
	@$(COMPOSE) logs --follow --tail 50

# The key and the command line of the containers here belong to no other place: a URL that is given is asked without them.
smoke: ## ask everything of the containers of make up, or of what runs at URL=https://…
	@if [ -n "$(URL)" ]; then $(PYTHON) tests/smoke.py "$(URL)"; \
	elif key=$$($(COMPOSE) exec -T api cat /secrets/api/api_key 2>/dev/null); then \
		echo "$$key" | $(PYTHON) tests/smoke.py "$(HERE)" --api-key-file - --etl "$(COMPOSE) exec -T etl"; \
	else $(PYTHON) tests/smoke.py "$(HERE)"; fi

# An environment that was damaged since is made anew.
ready: $(STAMP)
	@$(BIN)/python -c 'import etl.cli, pytest' 2>/dev/null || { echo "$(VENV) is damaged: making it anew"; rm -rf $(VENV); $(MAKE) --no-print-directory $(STAMP); }

bench: ready ## measure beside psql and peers, all or ONLY="reads csv"; writes benchmarks/results.md (half an hour)
	@echo "measuring with $(ROWS) rows: leave the machine alone meanwhile"
	@$(BIN)/python -m benchmarks --rows $(ROWS) $(if $(MOST),--most $(MOST)) $(if $(ONLY),--only $(ONLY))

lint: $(STAMP) ## code, types, images, workflows, manifests: all linters, without a network
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/hadolint Dockerfile.api Dockerfile.etl
	@$(BIN)/shellcheck .ci/run .ci/containers
	@$(BIN)/yamllint --config-file .yamllint.yml docker-compose.yml .github deploy
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/zizmor --offline --quiet --no-progress .github
	@$(BIN)/kubernetes-validate --strict --quiet $(KUBERNETES)
	@for file in deploy/gcp/*.tf; do $(BIN)/hcl2tojson $$file >/dev/null 2>&1 || { echo "$$file: not HCL" >&2; exit 1; }; done
	@! command -v terraform >/dev/null || terraform fmt -check -diff deploy/gcp
	@! command -v actionlint >/dev/null || actionlint -shellcheck $(BIN)/shellcheck

lock: $(STAMP) ## pin again what Docker and CI install
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile -q setup.cfg --universal --python-version 3.11 --generate-hashes --no-header -o requirements/etl.txt
	@echo 'setuptools>=80' | $(BIN)/uv pip compile -q - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --allow-unsafe -o requirements/build.txt
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
