# The commands of CNN Notes. Each sets up .venv first if that is not done yet.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

# mkdocs-material prints a notice on MkDocs 2, which these notes do not use.
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help serve build test bench lint mutate clean FORCE

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' \
	  $(MAKEFILE_LIST)
	@echo 'Pass options as ARGS: make serve ARGS="-a 127.0.0.1:9000"'
	@echo 'Choose a Python as PYTHON: make PYTHON=python3.12 serve'

serve: .venv/.stamp ## Show the site at http://127.0.0.1:8000/ and keep it fresh
	$(BIN)/mkdocs serve $(ARGS)

build: .venv/.stamp ## Build the site into site/
	$(BIN)/mkdocs build $(ARGS)

test: lint ## Lint, then run every test and every code block
	$(BIN)/pytest tests -n 2 --dist loadgroup $(ARGS)
	MPLBACKEND=agg $(BIN)/pytest --codeblocks \
	  docs/zh docs/en README.md README.zh.md

bench: .venv/.stamp ## Time the build and weigh the pages
	$(BIN)/python bench/run.py $(ARGS)

lint: .venv/.stamp ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

mutate: .venv/.stamp ## Change the NumPy core and see whether its tests notice
	MAX_EXAMPLES=50 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	  $(BIN)/mutmut run --max-children 2 $(ARGS)

clean: ## Remove what was built and cached; keep .venv
	rm -rf site .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	  build dist mutants *.egg-info
	find . -name .venv -prune -o -name __pycache__ -type d -prune \
	  -exec rm -rf {} +

# The stamp is checked each time, by content: the two files' dates say little,
# as a checkout changes them. A Python named by the caller must be the one in
# .venv; else any will do.
.venv/.stamp: FORCE
	@$(PYTHON) tools/bootstrap.py \
	  $(if $(filter file,$(origin PYTHON)),--any-python)
