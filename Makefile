# What can be done here. `make` alone lists it.

PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || echo python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
N      ?= 2000
JOBS   ?= auto

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-versions check interop crash fuzz bench conf rfc clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

run: ## try it: own certificate, two users, ports above 1024, all in ./run
	@$(PYTHON) scripts/run_demo.py

test: $(BIN)/.installed ## unit tests and transcripts, under a minute
	$(BIN)/pytest -q -n $(JOBS) tests --ignore=tests/interop --ignore=tests/crash --ignore=tests/bench

test-all: $(BIN)/.installed ## all tests: interoperation and crashes too
	$(BIN)/pytest -q -n $(JOBS) tests

test-versions: ## all tests with Python 3.11, 3.12 and 3.13, those that are installed
	@for version in 3.11 3.12 3.13; do \
	  if python$$version -c pass 2>/dev/null; then \
	    echo "== Python $$version"; \
	    $(MAKE) --no-print-directory test-all PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	  else echo "== Python $$version is not installed"; fi; \
	done

check: $(BIN)/.installed ## format, lint, types, import rules, RFC spelling, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m scripts.rfc_index --check
	$(BIN)/pytest -q tests/test_layers.py
	$(MAKE) --no-print-directory conf
	git diff --exit-code -- conf

interop: $(BIN)/.installed ## against the programs of others: those that are installed
	$(BIN)/pytest -q tests/interop

crash: $(BIN)/.installed ## kill the server at each step and look at the disk
	$(BIN)/pytest -q tests/crash

fuzz: $(BIN)/.installed ## N=2000 random inputs for each parser and session
	HYPOTHESIS_MAX_EXAMPLES=$(N) $(BIN)/pytest -q --timeout 3600 tests/fuzz

bench: $(BIN)/.installed ## how quick it is, beside Dovecot and Postfix if they are installed
	$(BIN)/python -m scripts.bench

conf: $(BIN)/.installed ## make conf/mailserver.toml from the schema
	$(BIN)/python -m scripts.make_conf

rfc: $(BIN)/.installed ## which code and which tests obey which section of which RFC
	@$(BIN)/python -m scripts.rfc_index

clean: ## remove what was made: environments, caches, ./run
	rm -rf $(VENV) .venv-3.* run build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
