# `make` lists the targets. Each one sets up the virtual environment that it runs in, and passes ARGS to the
# command that it runs: make test ARGS="-k merging".

PYTHON ?= python3
# atheris, the fuzzer, has wheels for Python 3.11 to 3.14.
FUZZ_PYTHON ?= python3.11
PORT ?= 8000
SCALE ?= 1
SECONDS ?= 60
# Two for each core: some tests wait for a server most of the time.
WORKERS ?= $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
export PORT

VENVS := .venv .venv-bench .venv-chaos .venv-fuzz

.PHONY: help demo demo-async test bench bench-quick chaos chaos-quick soak fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/ready ## serve the demo site on a real MongoDB, on PORT (8000)
	@.venv/bin/python -m testproject.demo $(ARGS)

demo-async: override ARGS += async
demo-async: demo ## serve the demo site with uvicorn: the same as make demo ARGS=async

test: .venv/ready ## run the tests on every core, and require full coverage
	@.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report

bench: .venv-bench/ready ## measure the engine and its peers, and write the report; SCALE=0.02 for a trial
	.venv-bench/bin/python -m benchmarks run --scale $(SCALE) $(ARGS)
	$(if $(filter 1,$(SCALE)),.venv-bench/bin/python -m benchmarks report)

bench-quick: .venv/ready ## compare the commands and bytes that each case sends with the expected ones
	@.venv/bin/python -m benchmarks quick $(ARGS)

chaos: .venv-chaos/ready ## break MongoDB, its connections and its clients, and write the results into the docs
	@.venv-chaos/bin/python -m tests.chaos --write $(ARGS)

chaos-quick: .venv-chaos/ready ## break less, and judge no times
	@.venv-chaos/bin/python -m tests.chaos --quick $(ARGS)

soak: .venv-chaos/ready ## run under full load for half an hour, with failovers, and draw the results
	@.venv-chaos/bin/python -m tests.chaos.soak $(ARGS)

fuzz: .venv-fuzz/ready ## fuzz cookies, documents and payloads for SECONDS (60), on FUZZ_PYTHON
	.venv-fuzz/bin/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS) $(ARGS)

clean: ## remove the virtual environments, and what the tools keep
	rm -rf $(VENVS) .tox .cache .coverage* .mypy_cache .pytest_cache .ruff_cache

# The dependency group and the interpreter of each virtual environment.
.venv/ready: GROUP := test
.venv-bench/ready: GROUP := bench
.venv-chaos/ready: GROUP := chaos
.venv-fuzz/ready: GROUP := fuzz
$(VENVS:%=%/ready): INTERPRETER = $(PYTHON)
.venv-fuzz/ready: INTERPRETER = $(FUZZ_PYTHON)

$(VENVS:%=%/ready): %/ready: pyproject.toml
	$(INTERPRETER) -m venv $*
	$*/bin/python -m pip install --quiet --upgrade pip
	$*/bin/python -m pip install --quiet --editable . --group $(GROUP)
	@touch $@
