# make search: set up and run the main job.  make test: set up, lint, type-check and test.
VENV ?= .venv
SPACE ?= digits.yaml
PYTHON ?= $(firstword $(foreach v,3.13 3.12 3.11,$(shell command -v python$(v) 2>/dev/null)) python3)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install search ui test lint unit test-system clean

help:
	@echo "make search       install, then search, confirm and verify SPACE=$(SPACE)"
	@echo "make ui           the MLflow UI on the studies"
	@echo "make test         install, then lint, types and tests"
	@echo "make test-system  the tests that start real servers (sshd, mlflow server)"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is too old; accepted: Python 3.11 or newer (make PYTHON=...)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

search: install
	$(BIN)/tune_bn search --space $(SPACE)

ui: install
	$(BIN)/tune_bn ui

test: lint unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: install
	$(BIN)/python -m pytest -m 'not system'

test-system: install
	$(BIN)/python -m pytest -m system

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
