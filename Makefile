# Every target runs in the environment .venv, which is created on first use with Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The marker file is written last, so that an interrupted installation starts again.
.venv/installed: setup.cfg setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mtl needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.PHONY: install
install: .venv/installed  ## create the environment .venv (every other target does so as well)

.PHONY: quickstart
quickstart: .venv/installed  ## compare one model per task with one for all, on five sample tasks (about six minutes on two cores)
	$(BIN)/python -m mtl compare quickstart $(ARGS)

.PHONY: test
test: .venv/installed  ## run all tests except the slow ones
	$(BIN)/python -m pytest -n auto -m 'not slow'

.PHONY: slow
slow: .venv/installed  ## run the slow tests: kill and resume, two processes, SLURM, the wheel
	$(BIN)/python -m pytest -m slow

.PHONY: docs
docs: .venv/installed  ## build the documentation, docs/_build/index.html; warnings are errors
	$(BIN)/sphinx-build --quiet -W --keep-going docs docs/_build

.PHONY: lint
lint: .venv/installed  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: .venv/installed  ## reformat and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

table-%: .venv/installed  ## run a comparison of experiments/tables/ and print its results; SIZE=mini|paper SEEDS=1,2 ARGS="..."
	$(BIN)/python -m experiments.run $* $(if $(SIZE),--size $(SIZE)) $(if $(SEEDS),--seeds '[$(SEEDS)]') $(ARGS)

.PHONY: results
results: .venv/installed  ## regenerate the results in README.md and experiments/results/, and their pages, experiments/results/html/index.html
	$(BIN)/python -m experiments.snapshots

.PHONY: families
families: .venv/installed  ## regenerate the tables of docs/families.md
	$(BIN)/python -m experiments.families

.PHONY: affinity
affinity: .venv/installed  ## measure which tasks help which: pairs against single tasks, and gradient cosines; ARGS="--suite glue ..."
	$(BIN)/python -m experiments.affinity $(ARGS)

.PHONY: bench
bench: .venv/installed  ## compare throughput with a plain PyTorch loop
	$(BIN)/python -m experiments.bench.throughput

.PHONY: tensorboard
tensorboard: .venv/installed  ## open TensorBoard for runs/, or LOGDIR=...
	$(BIN)/tensorboard --logdir $(or $(LOGDIR),runs)

.PHONY: clean
clean:  ## remove the environment and all caches, not the runs
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
