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
.PHONY: help demo test check lint types imports tests soak sweep bench constraints clean
.PHONY: kernels kernels-if-possible kernels-sanitize
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

demo: $(VENV)/.ready-to-run ## set up, then find, probe, export and time winning tickets on digits
	$(BIN)/sparsify run recipes/digits.yaml --run-dir runs/digits
	@echo "report: $(CURDIR)/runs/digits/report.html"

test: $(VENV)/.ready-to-test ## set up, then lint, types, import rules and tests: what CI runs
	@$(MAKE) --no-print-directory kernels-if-possible
	@$(MAKE) --no-print-directory check

check: lint types imports tests ## the same without set-up

lint: ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: ## basedpyright, strict, on both packages
	$(BIN)/basedpyright

imports: ## import rules: the floors of the layout
	$(BIN)/lint-imports

# Whole files to each process, in the order of tests/conftest.py: those that take long first.
tests: ## pytest, a process a core; choose with PYTEST='tests/store -x'
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST)

# The target sparse-cpu needs a compiled library. Where it cannot be built, everything else works without it.
KERNEL_FILES := *.txt *.toml cmake/* native/*.cpp native/*.h native/*.map sparsify_kernels/*.py
KERNEL_SOURCES := $(wildcard $(addprefix export/kernels/,$(KERNEL_FILES)))
KERNELS_FAILED = { reason=$$(sed -n 's/.*sparsify-kernels: //p' $(VENV)/kernels.log | head -n 1); \
  echo "make: no target sparse-cpu: sparsify-kernels was not built: $${reason:-see $(VENV)/kernels.log}" >&2; exit 1; }

kernels: $(VENV)/.kernels ## build and install sparsify-kernels, for the target sparse-cpu

$(VENV)/.kernels: $(KERNEL_SOURCES) | $(BIN)/python
	@echo 'building sparsify-kernels: a few minutes the first time; the log is $(VENV)/kernels.log'
	@$(BIN)/python -m pip install $(PIP) -v --no-deps --force-reinstall ./export/kernels >$(VENV)/kernels.log 2>&1 \
	  || $(KERNELS_FAILED)
	@touch $@

kernels-if-possible: | $(BIN)/python
	@$(MAKE) --no-print-directory kernels 2>$(VENV)/kernels.notice || grep -v '[*][*][*]' $(VENV)/kernels.notice >&2

kernels-sanitize: ## random layers through every kernel under ASan, UBSan and TSan; COUNT=300 of each kind
	@for sanitizer in address,undefined thread; do \
	  folder=export/kernels/build/sanitize-$$sanitizer && \
	  cmake -S export/kernels -B $$folder -DSPARSIFY_TESTS=ON -DSPARSIFY_SANITIZE=$$sanitizer && \
	  cmake --build $$folder --parallel && $$folder/random_layers $${COUNT:-300} 1 || exit 1; \
	done

soak: $(VENV)/.ready-to-test ## hours of repetition: kills, A/A trials
	$(BIN)/python -m pytest -m soak -o timeout=0 $(PYTEST)

sweep: $(VENV)/.ready-to-test ## half an hour: channels of sixty architectures of other libraries
	$(BIN)/python -m pytest -m sweep -n auto $(PYTEST)

bench: $(VENV)/.ready-to-test ## start-up and training speed; results in benchmarks/results
	$(BIN)/python benchmarks/bench_startup.py
	$(BIN)/python benchmarks/bench_training.py

constraints: $(VENV)/.ready-to-test ## rewrite constraints.txt from what is installed in .venv
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > $(VENV)/constraints
	@mv $(VENV)/constraints constraints.txt && git --no-pager diff --stat constraints.txt

clean: ## remove what make made, except runs/
	rm -rf $(VENV) dist build export/kernels/build export/kernels/third_party .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python -m venv $(VENV)" && exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "make: expected Python 3.11 or newer with the venv and pip modules; found none among: $(strip $(PYTHONS))." >&2; \
	echo "make: install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make demo PYTHON=/path/to/python3" >&2; \
	exit 1

# pip makes bytecode on one core, which takes as long as all the rest.
INSTALL = $(BIN)/python -m pip install --quiet --no-compile $(PIP) -c constraints.txt
COMPILE = $(BIN)/python -W ignore -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true  # of some files it cannot

$(VENV)/.ready-to-run: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'setting up .venv: a minute or two, longer where PyTorch is fetched'
	$(INSTALL) -e '.[cpu]'
	@$(COMPILE)
	@touch $@

$(VENV)/.ready-to-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'setting up .venv: a minute or two, longer where PyTorch is fetched'
	$(INSTALL) -e '.[cpu,tensorrt-rtx,dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/.ready-to-run
