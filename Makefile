# Everything a person runs here. Each target sets up what it needs.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# The first that answers: a version manager's shim may exist for a Python that doesn't.
PYTHON := $(shell for p in python3.12 python3.11 python3.10 python3; do $$p -c 'import ensurepip' 2>/dev/null && echo $$p && break; done)

# Tests and benchmarks start thousands of processes: what the first has compiled, the others read.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test check lint bench bench-jq chaos conformance fuzz-jq fuzz-schemas docs lock clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

setup: $(VENV)/.ready  ## make .venv with the `penstock` command in it

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v < (3, 13) else "Penstock needs Python 3.10, 3.11 or 3.12 (Bytewax 0.21.1 has no wheel for 3.13); found %d.%d." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup      ## a shop in PostgreSQL, its changes flowing; Ctrl-C stops all of it
	@$(BIN)/penstock demo || [ $$? = 130 ]  # Ctrl-C is how it ends

lint: setup      ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint      ## the quick subset, under 3 minutes
	$(BIN)/pytest -n 3 -m "not slow and not chaos"

test: lint       ## everything, on real servers
	@bash tests/services/install.sh
	$(BIN)/pytest -n 4 --dist worksteal

bench: setup     ## the figures of benchmarks/RESULTS.md, measured anew
	@bash tests/services/install.sh
	$(BIN)/python -m benchmarks

bench-jq: setup  ## jq programs: ours, libjq, jaq (where it is installed), Python by hand
	$(BIN)/python -m benchmarks.jq

chaos: setup     ## the crash tests with 200 kills
	@bash tests/services/install.sh
	PENSTOCK_CHAOS_KILLS=200 $(BIN)/pytest -n 0 -m chaos --timeout 3600

conformance: setup  ## run files of jq's own test format: make conformance JQ_TESTS="FILE…"
	$(BIN)/python -m tests.transforms.jq.conformance $(or $(JQ_TESTS),tests/transforms/jq/cases/*.test)

# A fresh seed each time, printed; JQ_SEED=… repeats a run. 20,000 cases a test.
fuzz-jq: export JQ_CASES := $(or $(JQ_CASES),20000)
fuzz-jq: export JQ_SEED := $(or $(JQ_SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))
fuzz-jq: setup   ## generated jq programs against libjq, and broken ones: JQ_CASES=20000 JQ_SEED=…
	@echo "JQ_SEED=$$JQ_SEED JQ_CASES=$$JQ_CASES"
	$(BIN)/pytest -n 0 --timeout 3600 tests/transforms/jq/test_agrees_with_libjq.py tests/transforms/jq/test_any_text_compiles_or_says_where.py

fuzz-schemas: export PENSTOCK_SCHEMA_PAIRS := $(or $(PENSTOCK_SCHEMA_PAIRS),10000)
fuzz-schemas: setup  ## 10,000 random pairs of schemas, compared in both directions
	$(BIN)/pytest -n 0 --timeout 3600 tests/schema_registry/test_comparing_random.py

docs: setup      ## write the generated reference pages
	$(BIN)/python -m penstock.reference docs/reference

lock: setup      ## resolve requirements.lock anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header --group dev --extra demo pyproject.toml -o requirements.lock

clean:           ## remove what the targets above made here
	rm -rf $(VENV) .cache build dist
