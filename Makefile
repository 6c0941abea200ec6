# The commands of this project. Each one first makes what it needs; `make help` lists them.
# Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test slow lint format types bench image clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/installed ## restore the example recordings through the Prefect flow, into the folder demo
	$(BIN)/python examples/demo.py demo

test: $(VENV)/installed-dev ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/installed-dev ## run the slow tests: real servers and workers, kills, clusters
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-dev ## look for mistakes and for lines out of style
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(VENV)/installed-dev ## bring all lines into style
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

types: $(VENV)/installed-dev ## check the types
	$(BIN)/python -m mypy

bench: $(VENV)/installed ## measure speed; with PAIRS=pairs.csv quality too, against the tools that are there
	$(BIN)/python benchmarks/speed.py
	$(if $(PAIRS),$(BIN)/python benchmarks/quality.py $(PAIRS))

image: ## build the container image audiorestore:latest
	docker build --tag audiorestore .

clean: ## remove what the commands above have made, but for the environment (.venv)
	rm -rf demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# Made again when the requirements change, or when an earlier try broke off: the stamp comes last.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@
