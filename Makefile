# What can be done here. `make` alone lists it.

# the first that runs: a pyenv shim may be there and fail
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
N      ?= 2000
MINUTES ?= 30
JOBS   ?= auto

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-versions check interop crash soak stress fuzz bench conf rfc clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

run: ## try it: own certificate, two users, ports above 1024, all in ./run
	@$(PYTHON) scripts/run_demo.py

test: $(BIN)/.installed ## unit tests and transcripts, under a minute
	$(BIN)/pytest -q -n $(JOBS) tests --ignore=tests/interop --ignore=tests/crash --ignore=tests/concurrency

test-all: $(BIN)/.installed ## all tests: interoperation and crashes too
	$(BIN)/pytest -q -n $(JOBS) tests

test-versions: ## all tests with Python 3.11, 3.12 and 3.13, those that are installed
	@for version in 3.11 3.12 3.13; do \
	  found=; \
	  for p in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python; do \
	    if $$p -c pass 2>/dev/null; then found=$$p; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "== Python $$version is not installed"; continue; fi; \
	  echo "== Python $$version ($$found)"; \
	  $(MAKE) --no-print-directory test-all PYTHON=$$found VENV=.venv-$$version || exit 1; \
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

crash: $(BIN)/.installed ## N=2000 times: kill the server at any moment, take its power, let calls fail; and look at the disk
	CRASH_N=$(N) $(BIN)/pytest -q -rP --timeout 86400 -n $(JOBS) tests/crash

soak: $(BIN)/.installed ## MINUTES=30 of mixed load by real clients: memory and descriptors must stay where they are
	SOAK_MINUTES=$(MINUTES) $(BIN)/pytest -q -rP --timeout 86400 tests/interop/test_soak.py

stress: $(BIN)/.installed ## N=2000 seconds for each scene: many sessions at random, every word of the server judged
	STRESS_SECONDS=$(N) $(BIN)/pytest -q --timeout 86400 -n $(JOBS) tests/concurrency

fuzz: $(BIN)/.installed ## N=2000 random inputs for each parser (a million takes half an hour)
	FUZZ_N=$(N) $(BIN)/pytest -q --timeout 7200 tests/fuzz

bench: $(BIN)/.installed ## how quick it is, beside Dovecot, if it is installed and you are root
	$(BIN)/python -m scripts.bench

conf: $(BIN)/.installed ## make conf/mailserver.toml from the schema
	$(BIN)/python -m scripts.make_conf

rfc: $(BIN)/.installed ## which code and which tests obey which section of which RFC
	@$(BIN)/python -m scripts.rfc_index

clean: ## remove what was made: environments, caches, ./run
	rm -rf $(VENV) .venv-3.* run build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
