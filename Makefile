# The one door: every target does its own set-up, here, on a fresh machine and in CI.
#
#   make demo     install, run the production environment of examples/shop, print its address
#   make test     everything below but bench: what CI runs
#   make check    format, lint, types, layers, generated documents
#   make stack    the tests that start the real engines
#   make faults   the tests that break the real engines, also those that take minutes
#   make bench    measure, print the table, write docs/benchmarks.md
#   make docs     write the generated documents again
#   make golden   write the golden files again, to be read with git diff
#   make clean    stop the demo, remove what was made here

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down check test unit stack faults bench docs golden clean

# Without compiled modules every command starts half as fast.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
BIN := $(CURDIR)/$(VENV)/bin

help:
	@sed -n '2,/^$$/s/^#  *make/make/p' Makefile

setup:
	@VENV=$(VENV) scripts/setup.sh requirements-dev.lock

demo:
	@VENV=$(VENV) scripts/setup.sh requirements-dev.lock
	@cd examples/shop && $(BIN)/asbuilt up production
	@echo "try:  cd examples/shop; export PATH=$(BIN):\$$PATH; asbuilt status production" >&2

demo-down:
	@cd examples/shop && $(BIN)/asbuilt down production

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generated.py --check

test: check
	@$(BIN)/python scripts/suites.py unit stack faults

unit: setup
	@$(BIN)/python scripts/suites.py unit

stack: setup
	@$(BIN)/python scripts/suites.py stack

faults: setup
	@$(BIN)/python scripts/suites.py faults slow

bench: setup
	@scripts/bench-setup.sh
	@$(BIN)/python benchmarks/run.py

docs: setup
	@$(BIN)/python scripts/generated.py

golden: setup
	@ASBUILT_GOLDEN=write $(BIN)/python scripts/suites.py unit -- -k 'golden or recorded'
	@git status --short tests

clean:
	@if [ -x $(BIN)/asbuilt ] && [ -f examples/shop/asbuilt.yaml ]; then cd examples/shop && $(BIN)/asbuilt down production || true; fi
	@rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
