# Needs make and Python 3.11 or later; everything else goes into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
BIN := .venv/bin
STAMP := .venv/installed
# Compiled modules are kept, whatever the shell says, and outside the checkout's own folders.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

.PHONY: help dev test quick faults soak mutations check docs demo up bench audit pins machine deploy \
	smoke ami destroy clean
.DEFAULT_GOAL := help

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip 25 takes two thirds of the time of that which comes with Python 3.11. Modules are compiled
# when they are first imported: most never are.
dev: $(STAMP) ## Install everything for development into .venv

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no python3 on PATH; Python 3.11 or later is needed" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is older than 3.11; name another: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "installing into .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25,<26'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	@touch $@

# Four processes keep two cores busy, since tests of real processes wait half of their time. Whole
# files go to whichever process is free, in pyproject.toml's order of folders.
WORKERS ?= 4
PARALLEL := --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

test: $(STAMP) ## Run all tests (ARGS="tests/unit -k lease" for some of them, WORKERS=2 at a time)
	$(BIN)/pytest $(PARALLEL) $(ARGS)

quick: $(STAMP) ## Run the tests that start no processes of the local cloud
	$(BIN)/pytest $(PARALLEL) tests/functional tests/model tests/contract tests/unit $(ARGS)

faults: $(STAMP) ## Run all of the fault suite and write docs/reliability.md (about an hour)
	$(BIN)/pytest --numprocesses=2 --dist=loadfile tests/model tests/faults --deep --figures docs/bench $(ARGS)
	@$(BIN)/python -m bench.pages

soak: $(STAMP) ## Kill processes for 15 minutes under a million tasks (ARGS="--minutes 2")
	@$(BIN)/python -m tests.faults.soak $(ARGS)

mutations: $(STAMP) ## Remove one protection at a time and show that the tests notice
	@$(BIN)/python -m tests.faults.mutations $(ARGS)

check: $(STAMP) ## Lint, format, types, import rules, stack definition
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint infra/stack.yaml
	$(BIN)/shellcheck infra/machine/*.sh
	$(BIN)/bandit -q -c pyproject.toml -r app.py taskfleet chalice_app ec2_worker animoto infra localcloud

docs: $(STAMP) ## Write the generated documents, and build the site into docs/_build/html
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m docs.site

demo: $(STAMP) ## Run the workloads of 2014 on a local cloud of their own, then stop it
	@$(BIN)/python -m localcloud.demo

up: $(STAMP) ## Run the local cloud until Ctrl-C (KEEP=1 keeps its state, ARGS="--workers 4")
	@$(BIN)/python -m localcloud --workers 2 $(if $(KEEP),--keep) $(ARGS)

bench: $(STAMP) ## Measure all and write docs/performance.md (BENCH=quick for a short try)
	@$(BIN)/python -m bench $(if $(filter quick,$(BENCH)),--quick) $(ARGS)

audit: $(STAMP) ## Look for known holes in what workers and Lambda get (asks PyPI's advisories)
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement infra/constraints.txt

pins: $(STAMP) ## Write infra/constraints.txt, requirements.txt: workers and Lambda get the versions of .venv
	@$(BIN)/python -m infra.pins

machine: $(STAMP) ## Boot a worker's machine in a container (needs root, debootstrap, systemd-nspawn)
	$(BIN)/pytest -m machine $(ARGS)

STAGE ?= dev
deploy: $(STAMP) ## Bring STAGE=dev to AWS, or up to date (ARGS="--set AlarmEmail=you@example.com")
	@$(BIN)/python -m infra.deploy up --stage $(STAGE) $(ARGS)

smoke: $(STAMP) ## Prove in an account that STAGE=dev works, for some cents, and delete it again
	@$(BIN)/python -m infra.smoke --stage $(STAGE) $(ARGS)

ami: $(STAMP) ## Bake a machine image for STAGE=dev, for faster boots
	@$(BIN)/python -m infra.deploy ami --stage $(STAGE)

destroy: $(STAMP) ## Delete STAGE=dev from AWS with all its data, after asking
	@$(BIN)/python -m infra.deploy destroy --stage $(STAGE) $(ARGS)

clean: ## Remove what was made: .venv, caches, the local cloud's folder
	rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build docs/_build *.egg-info
