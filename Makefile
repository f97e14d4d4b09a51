# Everything a contributor runs. Needs Python 3.11 or newer, git and make; the rest goes into .venv.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin

# The first interpreter that runs, is new enough and can make environments. A name that is found
# may still not run: version managers leave such names on the path.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$name -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
		>/dev/null 2>&1 && command -v $$name && break; done)

# Tests mostly wait for disks, databases and processes, so there are more of them than cores.
PYTEST := $(BIN)/python -m pytest -n 4 --dist worksteal
TYPED := $(wildcard src tests tools bench)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench storm queues transactions client faults soak simulate clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## Crash a workflow and watch it resume (installs the runtime only)
	@$(BIN)/python -m dbos.testing.demo

test: $(VENV)/.dev ## Run all tests, on SQLite and on PostgreSQL
	@$(PYTEST) tests

check: $(VENV)/.dev ## Formatting, lint, sizes and names, layers, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tools/tidy.py
	$(BIN)/lint-imports
	$(BIN)/mypy $(TYPED)
	$(BIN)/pyright
	@# This mode reads no configuration: it looks for packages where `python` does.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes dbos --ignoreexternal

bench: $(VENV)/.dev ## Measure throughput and latency
	@$(BIN)/python -m bench

storm: $(VENV)/.dev ## Kill real processes at random and check what is left
	@$(BIN)/python -m tests.process.storm

queues: $(VENV)/.dev ## Kill workers of limited queues and count every limit from outside
	@$(BIN)/python -m tests.process.queues_storm

transactions: $(VENV)/.dev ## Kill workers amid transactions and count every effect
	@$(BIN)/python -m tests.process.transactions_storm

client: $(VENV)/.dev ## Kill workers while clients enqueue, talk to and steer many runs
	@$(BIN)/python -m tests.process.client_storm

faults: $(VENV)/.dev ## Outages, frozen processes, takeovers: what is lost or done twice
	@$(BIN)/python -m tests.process.faults

soak: $(VENV)/.dev ## The long run: kills, pauses, outages, clock jumps
	@$(BIN)/python -m tests.process.soak

simulate: $(VENV)/.dev ## Many seeded runs on a simulated clock
	@$(BIN)/python -m tests.simulation

clean: ## Remove caches, reports and builds (keeps .venv)
	rm -rf build dist htmlcov coverage.xml .coverage .coverage.* .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(TYPED) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Perdure needs Python 3.11 or newer, with the venv module, and found none." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) does not run, or is older than Python 3.11, which Perdure needs." >&2; \
		exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@# Dependency groups need pip 25.1, and the pip that comes with Python 3.11 is older.
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.runtime: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $(VENV)/.runtime $@
