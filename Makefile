# Requirements: Python (3.11 or newer) and make. `make` alone lists the targets.
#
# constraints.txt pins every package, so that all commands give the same result at any time.
# It pins torch==2.13.0 without a build, so pip installs the build that the package index offers.
# On Linux without a GPU, PyTorch's CPU build saves some gigabytes:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LATEST := .venv-latest
LOWEST := .venv-lowest
EXTRAS := demo,dev,export,label-errors,qlora,sentencepiece,tune
# Resolves versions; only `make lock` and `make test-lowest` need it.
UV := .venv-uv/bin/uv
COMPILE = $(UV) pip compile --quiet --all-extras --no-annotate
# Additional arguments for pytest: make test ARGS="-k demo -x"
ARGS ?=
PYTEST := -m pytest -n auto --maxprocesses 8 --dist worksteal

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-latest test-lowest lock fuzz crash-test determinism hostile full-disk conformance grid mutations bench bench-gpu gpu-check docs lint format types layers check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED)  ## create .venv and install tuneoff into it

# $(call pip_install,environment,constraints file or nothing,options): install tuneoff with all
# extras. The constraints also apply to the build backend (PIP_BUILD_CONSTRAINT from pip 25.3 on).
define pip_install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "tuneoff needs Python 3.11 or newer; '$(PYTHON)' is older. Use another one:" >&2; \
  echo "  make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
@test -x $(1)/bin/pip || { echo "Creating $(1)"; $(PYTHON) -m venv $(1); }
@echo "Installing tuneoff and its dependencies into $(1) (some minutes the first time)"
@set -o pipefail; $(if $(2),PIP_CONSTRAINT=$(2) PIP_BUILD_CONSTRAINT=$(2)) $(1)/bin/python -m pip \
  install --disable-pip-version-check --no-input $(3) -e '.[$(EXTRAS)]' \
  | awk '/^ *(Downloading|Using cached) .* MB/ { $$1 = $$1; print "  " $$0; fflush() } \
         /^Installing collected/ { print "  Unpacking"; fflush() }'
endef

$(INSTALLED): pyproject.toml constraints.txt
	$(call pip_install,$(VENV),constraints.txt)
	@touch $@

demo: $(INSTALLED)  ## compare fine-tuning methods on real text, offline, in a few minutes
	@HF_HUB_OFFLINE=1 $(BIN)/tuneoff demo --out studies/demo

test: $(INSTALLED)  ## run the tests
	@$(BIN)/python $(PYTEST) $(ARGS)

test-latest:  ## run the tests with the newest versions that pyproject.toml allows, in .venv-latest
	$(call pip_install,$(LATEST),,--upgrade --upgrade-strategy eager)
	@$(LATEST)/bin/python -m pip list --format freeze > $(LATEST)/versions.txt
	@$(LATEST)/bin/python $(PYTEST) $(ARGS)

test-lowest: $(LOWEST)/.installed  ## run the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	@$(LOWEST)/bin/python $(PYTEST) $(ARGS)

$(LOWEST)/.installed: pyproject.toml | $(UV)
	@rm -rf $(LOWEST) && $(PYTHON) -m venv $(LOWEST)
	@$(COMPILE) --resolution lowest-direct --python $(PYTHON) pyproject.toml -o $(LOWEST)/versions.txt
	$(call pip_install,$(LOWEST),$(LOWEST)/versions.txt)
	@touch $@

# CUDA's libraries are excluded, because each build of PyTorch pins its own.
lock: | $(UV)  ## update constraints.txt to the newest versions that pyproject.toml allows
	@set -o pipefail; printf 'torch==2.13.0\nhatchling\n' | $(COMPILE) --universal \
	  --fork-strategy fewest --python-version 3.11 --custom-compile-command 'make lock' \
	  pyproject.toml - | grep -vE '^(cuda|nvidia|triton)' > constraints.txt.new
	@mv constraints.txt.new constraints.txt

$(UV):
	@$(PYTHON) -m venv $(@D)/.. && $(@D)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

fuzz: $(INSTALLED)  ## fuzz the loader of data files: seven tests of 2,000 examples (14 minutes)
	@TUNEOFF_FUZZ=$${TUNEOFF_FUZZ:-2000} $(BIN)/python -m pytest --timeout 7200 tests/tables/test_fuzz.py $(ARGS)

crash-test: $(INSTALLED)  ## kill and resume 50 studies of all method families (40 minutes); TUNEOFF_CRASHES=n
	@$(BIN)/python -m pytest -m long --timeout 3600 tests/scheduling/test_crashes.py \
	  tests/scheduling/test_deaths.py $(ARGS)

determinism: $(INSTALLED)  ## compare the results of ten new processes per method (some minutes)
	@$(BIN)/python -m pytest -m long --timeout 3600 tests/scheduling/test_determinism.py $(ARGS)

hostile: $(INSTALLED)  ## test hostile strings in all inputs, and 13 reports in a browser
	@$(BIN)/python -m pytest -m "" --timeout 3600 tests/report/test_hostile_strings.py \
	  tests/report/test_hostile_names.py $(ARGS)

full-disk: $(INSTALLED)  ## test small, read-only and full disks at each call of a run (root, Linux; 20 minutes)
	@$(BIN)/python -m pytest -m "" --timeout 3600 tests/faults $(ARGS)

conformance: $(INSTALLED)  ## test every method on every architecture (20 minutes); writes docs/conformance.md
	@TUNEOFF_MATRIX=docs/conformance.md $(BIN)/python -m pytest -m "" --timeout 600 tests/conformance $(ARGS)

grid: $(INSTALLED)  ## test the other combinations that the default tests skip (some minutes)
	@$(BIN)/python $(PYTEST) -m grid --ignore tests/conformance $(ARGS)

mutations: $(INSTALLED)  ## check that the tests detect deliberate bugs
	@$(BIN)/python tests/conformance/mutations.py

bench: $(INSTALLED)  ## compare with Transformers' Trainer on this machine (an hour); DATA=folder for real texts
	@$(BIN)/python benchmarks/trainer $(if $(DATA),--data $(DATA)) --out benchmarks/results/cpu.json $(ARGS)

bench-gpu: $(INSTALLED)  ## compare with Transformers' Trainer on a CUDA GPU
	@$(BIN)/python benchmarks/trainer $(if $(DATA),--data $(DATA)) --out benchmarks/results/gpu.json $(ARGS)

# On a GPU machine whose own Python has PyTorch: make gpu-check GPU_PYTHON=python3
GPU_PYTHON ?= $(BIN)/python
gpu-check: $(if $(filter $(BIN)/%,$(GPU_PYTHON)),$(INSTALLED))  ## check and measure tuneoff on a CUDA GPU (6 minutes)
	@$(GPU_PYTHON) benchmarks/gpu_check --results benchmarks/results/gpu $(ARGS)

docs: $(INSTALLED)  ## build the documentation site into docs/_build; warnings are errors
	@$(BIN)/python -c 'import sphinx' 2> /dev/null || PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip \
	  install --quiet --disable-pip-version-check --no-input -e '.[docs]'
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

lint: $(INSTALLED)  ## check style and format with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED)  ## format the code and apply ruff's fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED)  ## check types with mypy
	@$(BIN)/mypy

layers: $(INSTALLED)  ## check imports between packages with import-linter
	@$(BIN)/lint-imports

check: lint types layers test  ## run all checks; use it before a commit

clean:  ## remove the environments and all caches, but no studies
	@rm -rf $(VENV) $(LATEST) $(LOWEST) .venv-uv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache docs/_build docs/reference
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
