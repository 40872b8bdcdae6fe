# `make demo` and `make test` do all of their own set-up on a machine with Python 3.11+, make and git.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV = $$(command -v uv || echo $(BIN)/uv)
TESTS ?=

.PHONY: help demo test check format lock clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "histograde needs Python 3.11 or newer, found $$($(PYTHON) --version); set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "installing into $(VENV) (about 6 GB the first time)"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

demo: $(READY)  ## make slides, train, grade and report: the whole way, into demo-run/
	$(BIN)/histograde demo --out demo-run

test: $(READY)  ## everything: format, lint, types, all tests, notebooks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist worksteal --durations 40 --durations-min 5 $(TESTS)

check: $(READY)  ## format, lint, types and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow and not browser and not services" $(TESTS)

format: $(READY)  ## put the code into the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)  ## resolve requirements.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-header --quiet \
		-o requirements.lock --upgrade

clean:  ## remove the environment and what the demo made
	rm -rf $(VENV) demo-run .mypy_cache .pytest_cache .ruff_cache build *.egg-info
