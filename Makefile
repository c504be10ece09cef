# onebit: everything a fresh checkout needs is Python 3.11, make and a C compiler.
# Each command installs what it needs into .venv and does so again only after pyproject.toml or constraints.txt changed.

PYTHON ?= python3.11
PYTEST_ARGS ?= -n 2 --dist loadfile
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 5 -c constraints.txt $(PIP_ARGS)
PINS := pyproject.toml constraints.txt
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check fuzz bench bench-check setup setup-demo setup-lint clean distclean

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## train, convert, generate, simulate: real digits, from PyTorch to an emulated Cortex-M4
	@$(BIN)/onebit demo digits --resume

test: $(VENV)/.test ## run all tests (PYTEST_ARGS="-k conv" to choose)
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: $(VENV)/.test ## run all tests, the large ones too (every architecture at its full size, on an emulated core)
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest $(PYTEST_ARGS) -m ''

check: $(VENV)/.lint ## ruff and mypy --strict
	@status=0; $(BIN)/ruff check . || status=1; $(BIN)/mypy || status=1; exit $$status

fuzz: $(VENV)/.test ## 2,000 random graphs and 10,000 corrupted models (ONEBIT_FUZZ_SEED=N for others)
	@ONEBIT_FUZZ_GRAPHS=$${ONEBIT_FUZZ_GRAPHS:-2000} ONEBIT_FUZZ_MUTATIONS=$${ONEBIT_FUZZ_MUTATIONS:-10000} \
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz --log-level=INFO $(PYTEST_ARGS)

bench: $(VENV)/.test ## measure instruction counts
	@$(BIN)/python -m benchmarks.run

bench-check: $(VENV)/.test ## measure, and fail where a count is more than 2 % worse than the recorded one
	@$(BIN)/python -m benchmarks.run --check

setup: $(VENV)/.test $(VENV)/.lint ## install all that tests, checks and benchmarks need

setup-demo: $(VENV)/.demo ## install what the demo needs

clean: ## remove what was built or measured, but not .venv
	@rm -rf build dist runs demo-digits report.html .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	@rm -rf $(VENV)

# A stamp is written only after its step succeeded, so an interrupted installation is taken up again. An installation
# that holds more than a stamp asks for is left as it is.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; make PYTHON=/path/to/python3.11" >&2; exit 3; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.created $(PINS)
	@echo "installing what the demo needs (PyTorch, the LCE interpreter, an emulator; minutes the first time)"
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.created $(PINS)
	@echo "installing what the tests need (as for the demo, and TensorFlow and Larq; minutes the first time)"
	@$(PIP) -e '.[all,test]'
	@touch $@ $(VENV)/.demo

# mypy reads the types of the libraries, so the check needs them installed.
$(VENV)/.lint: $(VENV)/.test $(PINS)
	@$(PIP) -e '.[all,test,lint]'
	@touch $@ $(VENV)/.test $(VENV)/.demo
