# Set-up needs Python 3.11+ with pip, make, and nothing else. `make` lists the targets.
# Variables: PYTHON=/path/to/python3  PYTEST='-m slow -x'  PIP='--index-url ...'

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PIP ?=
PYTEST ?=
# Python 3.11 first: it is what constraints.txt was made and tested with.
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python
# One thread a process: on a busy machine two OpenMP threads spin on each other and take 20 times as long.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types imports tests soak bench constraints clean
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

demo: $(VENV)/.ready-to-run ## set up, then find, probe, export and time winning tickets on digits
	$(BIN)/sparsify run recipes/digits.yaml --run-dir runs/digits
	@echo "report: $(CURDIR)/runs/digits/report.html"

test: $(VENV)/.ready-to-test ## set up, then lint, types, import rules and tests: what CI runs
	@$(MAKE) --no-print-directory check

check: lint types imports tests ## the same without set-up

lint: ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: ## basedpyright, strict, on both packages
	$(BIN)/basedpyright

imports: ## import rules: the floors of the layout
	$(BIN)/lint-imports

tests: ## pytest, a process a core; choose with PYTEST='tests/store -x'
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST)

soak: $(VENV)/.ready-to-test ## hours of repetition: kills, A/A trials
	$(BIN)/python -m pytest -m soak -o timeout=0 $(PYTEST)

bench: $(VENV)/.ready-to-test ## start-up and training speed; results in benchmarks/results
	$(BIN)/python benchmarks/bench_startup.py
	$(BIN)/python benchmarks/bench_training.py

constraints: $(VENV)/.ready-to-test ## rewrite constraints.txt from what is installed in .venv
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > $(VENV)/constraints
	@mv $(VENV)/constraints constraints.txt && git --no-pager diff --stat constraints.txt

clean: ## remove what make made, except runs/
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python -m venv $(VENV)" && exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "make: expected Python 3.11 or newer with the venv and pip modules; found none among: $(strip $(PYTHONS))." >&2; \
	echo "make: install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make demo PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.ready-to-run: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'setting up .venv: a minute or two, longer where PyTorch is fetched'
	$(BIN)/python -m pip install --quiet $(PIP) -c constraints.txt -e '.[cpu]'
	@touch $@

$(VENV)/.ready-to-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'setting up .venv: a minute or two, longer where PyTorch is fetched'
	$(BIN)/python -m pip install --quiet $(PIP) -c constraints.txt -e '.[cpu,tensorrt-rtx,dev]'
	@touch $@ $(VENV)/.ready-to-run
