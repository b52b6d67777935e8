# Everything needs only Python (3.11 or newer) and make; `make` alone lists what there is.
#
# PyTorch's version comes from constraints.txt and must hold for every package of the one
# installation below: accelerate, peft and others ask for torch without a version.
# On Linux without a GPU, PyTorch's CPU build saves some gigabytes:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# More arguments for pytest: make test ARGS="-k demo -x"
ARGS ?=

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test fuzz crash-test determinism hostile full-disk conformance mutations bench bench-gpu gpu-check lint format types layers check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED)  ## build .venv and install tuneoff into it

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tuneoff needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another one:" >&2; \
	  echo "  make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/pip || { echo "Building $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing tuneoff and what it needs (some minutes the first time)"
	@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --no-input \
	  -c constraints.txt -e '.[demo,dev,qlora]' \
	  | awk '/^ *(Downloading|Using cached) .* MB/ { $$1 = $$1; print "  " $$0; fflush() } \
	         /^Installing collected/ { print "  Unpacking"; fflush() }'
	@touch $@

demo: $(INSTALLED)  ## compare fine-tuning methods on real text, offline, in a few minutes
	@HF_HUB_OFFLINE=1 $(BIN)/tuneoff demo --out studies/demo

test: $(INSTALLED)  ## run the tests
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

fuzz: $(INSTALLED)  ## the loader under 2,000 arbitrary files of each of seven kinds
	@TUNEOFF_FUZZ=$${TUNEOFF_FUZZ:-2000} $(BIN)/python -m pytest --timeout 7200 tests/data/test_fuzz.py $(ARGS)

crash-test: $(INSTALLED)  ## 50 studies of all families killed and resumed (40 minutes); TUNEOFF_CRASHES=n
	@$(BIN)/python -m pytest -m long --timeout 3600 tests/launch/test_crashes.py $(ARGS)

determinism: $(INSTALLED)  ## ten fresh processes per method, one answer (some minutes)
	@$(BIN)/python -m pytest -m long --timeout 3600 tests/launch/test_determinism.py $(ARGS)

hostile: $(INSTALLED)  ## hostile strings in every place, 13 reports in a browser
	@$(BIN)/python -m pytest -m "" --timeout 3600 tests/report/test_hostile_strings.py \
	  tests/report/test_hostile_names.py $(ARGS)

full-disk: $(INSTALLED)  ## small, read-only, and full from each call of a run on (root, Linux; 20 minutes)
	@$(BIN)/python -m pytest -m "" --timeout 3600 tests/faults $(ARGS)

conformance: $(INSTALLED)  ## every method on every architecture (20 minutes); writes the matrix
	@TUNEOFF_MATRIX=docs/conformance.md $(BIN)/python -m pytest -m "" --timeout 600 tests/conformance $(ARGS)

mutations: $(INSTALLED)  ## deliberate faults, each of which a test must see
	@$(BIN)/python tests/conformance/mutations.py

bench: $(INSTALLED)  ## against Transformers' Trainer on this machine (an hour); DATA=folder for real rows
	@$(BIN)/python benchmarks/trainer $(if $(DATA),--data $(DATA)) --out benchmarks/results/cpu.json $(ARGS)

bench-gpu: $(INSTALLED)  ## the same on a CUDA GPU
	@$(BIN)/python benchmarks/trainer $(if $(DATA),--data $(DATA)) --out benchmarks/results/gpu.json $(ARGS)

# Of a GPU machine whose own Python has PyTorch: make gpu-check GPU_PYTHON=python3
GPU_PYTHON ?= $(BIN)/python
gpu-check: $(if $(filter $(BIN)/%,$(GPU_PYTHON)),$(INSTALLED))  ## tuneoff on a CUDA GPU, checked and measured (6 minutes)
	@$(GPU_PYTHON) benchmarks/gpu_check --results benchmarks/results/gpu $(ARGS)

lint: $(INSTALLED)  ## check style and format with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED)  ## put the code into its format and mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED)  ## check types with mypy
	@$(BIN)/mypy

layers: $(INSTALLED)  ## check who imports whom with import-linter
	@$(BIN)/lint-imports

check: lint types layers test  ## all of it, before a commit

clean:  ## remove .venv and every cache; studies stay
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
