# Every target runs in an environment of the project's own, .venv, made on first use with Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The file is written last: an installation that was cut off starts again.
.venv/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mtl needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.PHONY: install
install: .venv/installed  ## make the environment .venv (every other target does so by itself)

.PHONY: quickstart
quickstart: .venv/installed  ## compare single-task with multi-task training on five sample tasks: about five minutes on two cores
	$(BIN)/python -m experiments.quickstart $(ARGS)

.PHONY: test
test: .venv/installed  ## the tests, without the slow ones
	$(BIN)/python -m pytest -n auto -m 'not slow'

.PHONY: slow
slow: .venv/installed  ## the slow tests: kill and resume, two processes, the quickstart
	$(BIN)/python -m pytest -m slow

.PHONY: docs
docs: .venv/installed  ## the documentation as HTML, docs/_build/index.html; warnings are errors
	$(BIN)/sphinx-build --quiet -W --keep-going docs docs/_build

.PHONY: lint
lint: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: .venv/installed  ## let ruff write what lint would ask for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

table-%: .venv/installed  ## a table of experiments/tables/: runs what is missing; SIZE=mini|paper SEEDS=1,2 ARGS="..."
	$(BIN)/python -m experiments.run $* $(if $(SIZE),--size $(SIZE)) $(if $(SEEDS),--seeds '[$(SEEDS)]') $(ARGS)

.PHONY: results
results: .venv/installed  ## write the README's results, and experiments/results/README.md, from the results kept
	$(BIN)/python -m experiments.snapshots

.PHONY: affinity
affinity: .venv/installed  ## which tasks help which: pairs against single, and gradients' cosines; ARGS="--suite glue ..."
	$(BIN)/python -m experiments.affinity $(ARGS)

.PHONY: bench
bench: .venv/installed  ## throughput against a plain PyTorch loop
	$(BIN)/python -m experiments.bench.throughput

.PHONY: tensorboard
tensorboard: .venv/installed  ## look at the runs under runs/, or LOGDIR=...
	$(BIN)/tensorboard --logdir $(or $(LOGDIR),runs)

.PHONY: clean
clean:  ## remove the environment and all caches, but no runs
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
