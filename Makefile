# Needs Python 3.11 or later with pip and venv. The first target that needs them sets up .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
JOBS   ?= 2
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check long bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the locked dependencies and chainrule itself

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "chainrule needs Python 3.11+")'
	$(PYTHON) -m venv $(VENV)

# No build isolation: the build tools come from the lock file too, so every download is hashed.
$(READY): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## Train a network on 1,797 handwritten digits
	$(BIN)/chainrule train digits

test: $(READY) ## Run the tests
	$(BIN)/python -m pytest -n $(JOBS)

check: $(READY) ## Lint, formatting, types and tests: what must pass before a commit
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy --strict src/chainrule
	$(BIN)/python -m pytest -n $(JOBS)

long: $(READY) ## Run the long tests
	$(BIN)/python -m pytest -m long

bench: $(READY) ## Run the benchmarks
	$(BIN)/python -m benchmarks --write

lock: | $(BIN)/python ## Write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile pyproject.toml --extra test --universal --python-version 3.11 \
	  --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --output-file requirements.lock --quiet

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
