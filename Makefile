# Each target sets itself up: the environment is made once and made again when the dependencies change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Weights and other things worth keeping stay inside the checkout.
export FEATX_CACHE ?= $(CURDIR)/cache

.PHONY: demo test check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/featx demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell --dictionary - --dictionary plain-words.txt featx docs README.md

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "featx needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: setup.cfg pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.test: setup.cfg pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
