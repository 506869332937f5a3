# Every target works as the first command in a fresh clone: it makes .venv and installs what it needs.
# PYTHON chooses the interpreter that .venv is made from. SYSTEM=1 makes no .venv and uses PYTHON as it is, for
# machines (GPU images, say) that carry the packages already.

PYTHON ?= python3
CONFIG ?= configs/train/quickstart.yaml
ARGS ?=

ifdef SYSTEM
PY := PYTHONPATH=src $(PYTHON)
ROLLOOM := $(PY) -m rolloom.rollout.cli
CORE :=
DEV :=
else
PY := .venv/bin/python
ROLLOOM := .venv/bin/rolloom
CORE := .venv/.core
DEV := .venv/.dev
endif

.DEFAULT_GOAL := help
.PHONY: help quickstart warmstart test test-slow test-gpu bench lint format types docs cards clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(CORE) ## train the shipped 1M-parameter policy on four environments; ends with report.html
	$(ROLLOOM) train $(CONFIG) $(ARGS)

warmstart: $(CORE) ## remake the shipped policy from synthetic demonstrations
	$(ROLLOOM) warmstart $(ARGS)

test: $(DEV) ## fast tests
	$(PY) -m pytest $(ARGS)

test-slow: $(DEV) ## tests marked slow
	$(PY) -m pytest -m "slow and not gpu" --timeout 1800 $(ARGS)

test-gpu: $(DEV) ## tests marked gpu; they need a CUDA device
	$(PY) -m pytest -o addopts= --strict-markers -m gpu $(ARGS)

bench: $(DEV) .venv-peers/.made ## run every benchmark and update docs/benchmarks.md
	$(PY) -m benchmarks $(ARGS)

lint: $(DEV) ## ruff: rules and formatting
	$(PY) -m ruff check
	$(PY) -m ruff format --check

format: $(DEV) ## ruff: apply fixes and formatting
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

types: $(DEV) ## pyright
	$(PY) -m pyright

docs: $(DEV) ## write docs/guide/configuration.md and docs/environments/ from docstrings and cards
	$(PY) docs/configuration.py
	$(PY) docs/suite.py

cards: $(DEV) ## check every environment, and keep the cards for `make docs`
	$(ROLLOOM) envs check --all --seconds 10 --json docs/environments/cards.json $(ARGS)

clean: ## remove .venv and caches; runs/ is kept
	rm -rf .venv .pytest_cache .ruff_cache build dist src/*.egg-info

.venv-peers/.made: benchmarks/rollout_envs/peers.txt | $(DEV)
	@echo "installing the peers that cannot stand beside ours into .venv-peers"
	@$(PY) -m benchmarks.rollout_envs.peers
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "rolloom needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo not there)." \
	       "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing rolloom into .venv (a few minutes the first time; torch is large)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.dev: .venv/.core
	@echo "installing the development tools into .venv"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
