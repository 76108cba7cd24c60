# `make demo` shows the site, and `make demo-async` by uvicorn; `make test` runs all tests; `make bench`
# measures beside the peers, and `make bench-quick` counts what is sent; `make chaos` breaks things, `make
# chaos-quick` fewer of them, and `make soak` does so for half an hour; `make fuzz` makes up hostile input.
# Each does its own set-up.

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := .venv-bench
BENCH_BIN := $(BENCH_VENV)/bin
CHAOS_VENV := .venv-chaos
CHAOS_BIN := $(CHAOS_VENV)/bin
SCALE ?= 1
FUZZ_VENV := .venv-fuzz
FUZZ_BIN := $(FUZZ_VENV)/bin
# One that atheris has wheels for.
FUZZ_PYTHON ?= python3.11
SECONDS ?= 60
export PORT

.PHONY: demo demo-async test bench bench-quick chaos chaos-quick soak fuzz clean

demo: $(VENV)/ready
	@$(BIN)/python -m testproject.demo

demo-async: $(VENV)/ready
	@$(BIN)/python -m testproject.demo async

test: $(VENV)/ready
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist worksteal $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

bench: $(BENCH_VENV)/ready
	$(BENCH_BIN)/python -m benchmarks run --scale $(SCALE)
	[ "$(SCALE)" != 1 ] || $(BENCH_BIN)/python -m benchmarks report

bench-quick: $(VENV)/ready
	@$(BIN)/python -m benchmarks quick

chaos: $(CHAOS_VENV)/ready
	@$(CHAOS_BIN)/python -m tests.chaos --write $(ARGS)

chaos-quick: $(CHAOS_VENV)/ready
	@$(CHAOS_BIN)/python -m tests.chaos --quick $(ARGS)

soak: $(CHAOS_VENV)/ready
	@$(CHAOS_BIN)/python -m tests.chaos.soak $(ARGS)

fuzz: $(FUZZ_VENV)/ready
	$(FUZZ_BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group test
	@touch $@

$(BENCH_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_BIN)/python -m pip install --quiet --upgrade pip
	$(BENCH_BIN)/python -m pip install --quiet --editable . --group bench
	@touch $@

$(CHAOS_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(CHAOS_VENV)
	$(CHAOS_BIN)/python -m pip install --quiet --upgrade pip
	$(CHAOS_BIN)/python -m pip install --quiet --editable . --group chaos
	@touch $@

$(FUZZ_VENV)/ready: pyproject.toml
	$(FUZZ_PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_BIN)/python -m pip install --quiet --upgrade pip
	$(FUZZ_BIN)/python -m pip install --quiet --editable . --group fuzz
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(CHAOS_VENV) $(FUZZ_VENV) .tox .cache .coverage* .mypy_cache .pytest_cache .ruff_cache
