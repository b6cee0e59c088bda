# Both `make demo` and `make test` set everything up in .venv first; nothing but Python 3.11 or newer and make is needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/siglip2 demo

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/backbone.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/imports.py
	$(BIN)/python benchmarks/scenes.py
	$(BIN)/python benchmarks/segmentation.py
	$(BIN)/python benchmarks/detection.py

clean:
	rm -rf .venv demo

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python {sys.version.split()[0]} is too old: expected 3.11 or newer. Pass another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(READY)
