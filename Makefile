# `make demo` shows the site, `make demo-async` shows it by uvicorn, `make test` runs all tests. Each
# does its own set-up.

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
export PORT

.PHONY: demo demo-async test clean

demo: $(VENV)/ready
	@$(BIN)/python -m testproject.demo

demo-async: $(VENV)/ready
	@$(BIN)/python -m testproject.demo async

test: $(VENV)/ready
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group test
	@touch $@

clean:
	rm -rf $(VENV) .tox .cache .coverage* .mypy_cache .pytest_cache .ruff_cache
