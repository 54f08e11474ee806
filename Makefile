# make search: set up and run the main job.  make test: set up, lint, type-check and test.
VENV ?= .venv
SPACE ?= digits.yaml
# The first of these that runs and is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := $(VENV)/bin
# Tests that kill and wait leave a quarter of two cores idle, so there is a worker more than there are cores.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 1); echo $$((cores < 4 ? cores + 1 : 4)))
STAMP := $(VENV)/.installed
BENCH ?= build/bench

.PHONY: help install search ui test lint unit quick quick-unit test-system bench bench-speed-results bench-statistics-results soak docs \
	docs-site pictures clean

help:
	@echo "make search       install, then search, confirm and verify SPACE=$(SPACE)"
	@echo "make ui           the MLflow UI on the studies"
	@echo "make test         install, then lint, types and tests"
	@echo "make quick        lint, types, and the tests that load no torch, Ray or MLflow, start nothing and are soon done (a minute or two)"
	@echo "make bench        speed: what is reached on this machine, beside its goals (ten minutes)"
	@echo "make bench-speed-results       the same in full, into benchmarks/results (an hour and a half)"
	@echo "make bench-statistics-results  the benchmarks of search, selection and verdict (an hour on two cores)"
	@echo "make soak         load, many users and fuzz in full, into benchmarks/results (an hour; needs root and PostgreSQL)"
	@echo "make docs         the pages of docs/ that are written from the code"
	@echo "make docs-site    a site of the pages of docs/, in build/site"
	@echo "make test-system  the tests that need Debian packages: real servers (sshd, PostgreSQL, Slurm), TeX"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python found; accepted: Python 3.11 or newer (make PYTHON=...)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

search: install
	$(BIN)/tune_bn search --space $(SPACE)

ui: install
	$(BIN)/tune_bn ui

# Types take one core for a minute or two, in which the tests collect themselves.
test: install
	$(MAKE) -j 2 lint unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not system' -n $(WORKERS) --dist worksteal

# Types take one core for as long as the tests take the others.
quick: install
	$(MAKE) -j 2 lint quick-unit

quick-unit: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -r fE --quick -n auto --maxprocesses 4 --dist worksteal

test-system: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m system -n auto --maxprocesses 2 --dist worksteal

bench: install
	$(BIN)/python -m benchmarks.speed.training_loop --workloads resnet8 resnet18 --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.fusion --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.evaluation --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.roofline --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.checkpoints --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.scaling --rounds 3 --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.driver_limits --trials 100 1000 --rounds 1 --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.driver_reports --rounds 1 --results $(BENCH)
	$(BIN)/python -m benchmarks.load.study_load --studies 200 --runs 20000 --rounds 3 --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.end_to_end --small --rounds 1 --results $(BENCH)
	$(BIN)/python -m benchmarks.speed.speed --results $(BENCH)

bench-speed-results: install
	$(BIN)/python -m benchmarks.speed.training_loop --compile
	for name in fusion evaluation roofline checkpoints packing scaling bf16_parity driver_limits driver_reports end_to_end speed; do \
		$(BIN)/python -m benchmarks.speed.$$name || exit 1; done

bench-statistics-results: install
	for name in power designs slow_baseline tuning_luck sample_efficiency calibration summary; do \
		OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.statistics.$$name || exit 1; done

soak: install
	for name in load.many_users hostile.fuzz load.study_load load.mlflow_load speed.driver_limits; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done

docs: install
	$(BIN)/python -m tune_bn.space.reference > docs/space.md
	$(BIN)/python -m docs.generate.api api > docs/api.md
	$(BIN)/python -m docs.generate.api cli > docs/cli.md

docs-site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pictures: install
	$(BIN)/python -m docs.generate.pictures studies/digits-1

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
