# SPDX-License-Identifier: Apache-2.0
# `make train` and `make test` set everything up by themselves; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := host hls/e2hls sim tests scripts
CPP := $(wildcard hls/kernels/*.?pp hls/include/* sim/soc/*.?pp)

.PHONY: help setup train test board-test test-slow lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv with every dependency, pinned

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python 3.10 to 3.12 is needed, this is {v[0]}.{v[1]}: run make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	PYNQ_REMOTE=1 $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,sim,remote,dev]'
	@touch $@

train: $(READY)  ## train a small CNN, every convolution on the simulated FPGA
	$(BIN)/e2train train digits --device rtl --out runs/digits

test: $(READY)  ## run all tests that need no board
	$(BIN)/pytest -m 'not slow'

board-test: $(READY)  ## run the tests on simulated boards alone, through the real pynq client
	$(BIN)/pytest tests/board

test-slow: $(READY)  ## run the tests that take minutes each
	$(BIN)/pytest -m slow

lint: $(READY)  ## ruff, mypy --strict, clang-format, codespell, doctests, unit tests
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python scripts/format_cpp.py --check $(CPP)
	$(BIN)/codespell README.md CHANGELOG.md $(SOURCES) hls
	$(BIN)/pytest --doctest-modules host tests/unit

format: $(READY)  ## bring the code into the house format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/python scripts/format_cpp.py $(CPP)

clean:  ## remove build products and runs, keep .venv
	rm -rf build runs
