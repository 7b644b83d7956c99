# SPDX-License-Identifier: Apache-2.0
# `make train` and `make test` set everything up by themselves; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := setup.py host hls/e2hls sim tests scripts docs
CPP := $(wildcard hls/kernels/*.?pp hls/include/*.h hls/include/*/*.h hls/e2hls/simulation/*.cpp sim/soc/*.?pp host/e2train/devices/native/*.?pp)

.PHONY: help setup train train-smb-int8 train-e2train train-smb-fp32 test board-test browser-test test-slow wheel-test docs notebooks lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv with every dependency, pinned

$(READY): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python 3.10 to 3.12 is needed, this is {v[0]}.{v[1]}: run make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	PYNQ_REMOTE=1 $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,sim,remote,dev,docs,export]'
	@touch $@

# One run, gone on with where it was stopped.
trained = $(BIN)/e2train train digits --method $(1) --device $(2) --out runs/digits-$(1) \
	$$(test ! -e runs/digits-$(1)/checkpoint.pt -o -e runs/digits-$(1)/summary.json && echo --overwrite || echo --resume)

train: $(READY)  ## train a small CNN in float32 and, on the simulated FPGA, in int8 and with the savings; and report
	@echo 'e2train, then smb-fp32 train beside smb-int8; they write to runs/digits-e2train.log and -smb-fp32.log'
	@mkdir -p runs
	@$(MAKE) --no-print-directory -j2 train-smb-int8 train-e2train train-smb-fp32
	$(BIN)/e2train energy report runs/digits-smb-fp32 runs/digits-smb-int8 runs/digits-e2train --out runs/digits

train-smb-int8:
	$(call trained,smb-int8,rtl)

train-e2train:
	@$(call trained,e2train,rtl) > runs/digits-e2train.log 2>&1 || { cat runs/digits-e2train.log; exit 1; }

train-smb-fp32:
	@$(call trained,smb-fp32,emulator) > runs/digits-smb-fp32.log 2>&1 || { cat runs/digits-smb-fp32.log; exit 1; }

test: $(READY)  ## run all tests that need no real board, sensor or browser, but the slow ones
	$(BIN)/pytest -m 'not slow and not browser'

board-test: $(READY)  ## run the tests on simulated boards alone, through the real pynq client
	$(BIN)/pytest tests/board

test-slow: $(READY)  ## run the tests that take minutes each
	$(BIN)/pytest -m slow

wheel-test: $(READY)  ## the test of test-slow that installs the wheel and the sdist and runs them elsewhere
	$(BIN)/pytest -n0 -m slow tests/system/test_wheel.py

browser-test: $(READY)  ## look at a report in headless Chromium (package chromium)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[browser]'
	$(BIN)/pytest -n0 -m browser tests/browser

docs: $(READY)  ## build the documentation into build/docs; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

notebooks: $(READY)  ## run the notebooks of the documentation and keep what they print
	$(BIN)/python scripts/run_notebooks.py

lint: $(READY)  ## ruff, mypy --strict, clang-format, codespell, doctests, unit tests
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy scripts/*.py
	$(BIN)/python scripts/format_cpp.py --check $(CPP)
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md $(SOURCES) hls
	$(BIN)/pytest --doctest-modules host tests/unit

format: $(READY)  ## bring the code into the house format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/python scripts/format_cpp.py $(CPP)

clean:  ## remove build products and runs, keep .venv
	rm -rf build runs
