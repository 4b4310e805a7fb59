# Every task of the project. Targets are relative paths, so that a clone may live in a folder with spaces in its name.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# ARGS goes to what a task runs: make demo ARGS="--seed 7", make test ARGS="-k window"
ARGS ?=
# QUICK=1: a few weeks instead of a year (demo), small sizes (bench)
QUICK ?=

PY := .venv/bin/python
BASE := .venv/.installed-base
DEV := .venv/.installed-dev
quick := $(if $(filter-out 0,$(QUICK)),--quick)

# Compiled kernels stay in the environment: the second run starts at once, and `make clean` forgets them.
export NUMBA_CACHE_DIR ?= $(CURDIR)/.venv/cache/numba
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test services clients pytest lint types imports check reference format bench docs lock clean

help: ## list every task
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(BASE) ## make .venv with the locked base install

demo: $(BASE) ## raw events to the closed loop on a year of flights (QUICK=1: a few weeks; ARGS="--keep" leaves it up)
	@.venv/bin/mainspring demo $(quick) $(ARGS)

test: lint types imports check docs pytest ## everything that must hold: lint, types, import order, repo checks, pages, tests

services: ## have PostgreSQL, Mosquitto, HAProxy and curl on this machine, for the tests
	@bash tools/services.sh

clients: $(DEV) ## install the clients of the V2 protocol that tests run, each in an environment of its own
	@bash tools/clients.sh

pytest: $(DEV) services clients ## the tests alone (ARGS="-k window -x")
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(DEV) ## ruff: every rule, and the format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(DEV) ## mypy, strict on src
	@$(PY) -m mypy

imports: $(DEV) ## the order of the rooms
	@PYTHONPATH=src .venv/bin/lint-imports

check: $(DEV) ## the repository's own small checks (tools/check_repo.py)
	@$(PY) tools/check_repo.py
	@$(PY) tools/errors_page.py --check

reference: $(BASE) ## write the pages that are made from the source (docs/reference/errors.md)
	@$(PY) tools/errors_page.py

format: $(DEV) ## let ruff mend what it can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: $(DEV) ## measure: every bench/*.py, one after another (QUICK=1: small sizes)
	@shopt -s nullglob; for script in bench/*.py; do echo "== $$script"; $(PY) "$$script" $(quick) $(ARGS); done

docs: $(DEV) ## build the pages into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@echo "site/index.html"

lock: $(DEV) ## resolve requirements.lock and requirements-dev.lock anew (UPGRADE=1: to the newest versions)
	@bash tools/lock.sh $(if $(filter-out 0,$(UPGRADE)),--upgrade)

clean: ## remove the environment and everything generated
	rm -rf .venv site dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests tools bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is newer than what it installed. A clone that was moved is installed anew: scripts carry their path.
ifneq ($(shell cat .venv/.made-in 2>/dev/null),$(CURDIR))
.PHONY: $(BASE)
endif

$(BASE): requirements.lock pyproject.toml tools/setup.sh
	@bash tools/setup.sh base

$(DEV): requirements-dev.lock $(BASE)
	@bash tools/setup.sh dev
