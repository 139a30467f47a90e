# Needs nothing but make and a Python from 3.10 on: every target that runs something
# first makes the environment in .venv, once; later calls only look whether it is right.
#
#   make bench                           the suite 'quick': a first table
#   make bench ARGS="fmnist --seeds 0"   anything that 'fedkd bench' understands
#   make test PYTHON=python3.12          with a Python of your choice

PYTHON ?=
ARGS ?=
BIN := .venv/bin
# The real folders. fedkd/algorithms and its like are links to them, for type checkers.
CODE := fedkd algorithms datasets models benchmarks tests docs

export PYTHON
# Tests and benches start Python hundreds of times; without its files of bytecode each start
# compiles fedkd anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv bench test test-all check format lint types docs docs-check site benchmark benchmark-check mutate fuzz clean

help: ## Show this list
	@echo "usage: make TARGET [ARGS=...] [PYTHON=...]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '%-14s%s\n' "$$target" "$$text"; done

venv: ## Make .venv and install fedkd with its tools into it, if that is not done
	@sh .ci/venv

bench: venv ## Run a suite and print its table: quick, or what ARGS says
	@$(BIN)/fedkd bench $(ARGS)

# Neighbours stay in one process, where they share what is made once for a module.
test: venv ## Run the tests, but the thorough ones
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-all: venv ## Run all tests, also those that show at length or for a preset what others do
	$(BIN)/pytest -n auto --dist worksteal -m '' $(ARGS)

# What takes one core runs side by side; the tests take all there are.
check: venv ## All that must pass: format, lint, types, docs, tests
	@$(MAKE) --no-print-directory -j2 format lint types docs-check
	@$(MAKE) --no-print-directory test

format: venv ## Check the format ('ruff format' mends it)
	$(BIN)/ruff format --check --quiet $(CODE)

lint: venv ## Check style and common mistakes
	$(BIN)/ruff check $(CODE)

types: venv ## Check the types, strictly
	$(BIN)/mypy

docs: venv ## Write the generated pages and the recorded tables anew
	@$(BIN)/python docs/generate.py
	@$(BIN)/python benchmarks/tables.py

docs-check: venv ## Check that the generated pages are fresh
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python benchmarks/tables.py --check

site: venv ## Build the documentation site, strictly: build/site/index.html
	@$(BIN)/python -c 'import material, mkdocs, mkdocstrings_handlers.python' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@$(BIN)/python docs/make_site.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: venv ## Measure speed with pytest-benchmark
	$(BIN)/pytest benchmarks --benchmark-only $(ARGS)

benchmark-check: venv ## Fail if a speed ratio fell below the recorded one
	$(BIN)/python benchmarks/check.py $(ARGS)

mutate: venv ## Plant faults, one by one, and see which tests notice: ARGS="-j 4 fedavg"
	@$(BIN)/python tests/mutation/mutate.py $(ARGS)

fuzz: venv ## Feed malformed files to every reader of files: ARGS="payload --number 1000"
	@$(BIN)/python tests/fuzz/fuzz_by_hand.py $(ARGS)

clean: ## Remove the environment and everything that tools leave behind; results stay
	rm -rf .venv build dist *.egg-info .benchmarks .hypothesis .coverage
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
