# Each target works alone on a fresh clone: it makes the virtual environment and installs what is pinned first.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.10 python3.9 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
DEMO_FLAGS ?=
JAX ?= jax==0.10.2

.PHONY: help install demo test lint ops jax clean
help:
	@echo 'make demo   train on bundled digits, issue two users, attribute their images (about 10 minutes)'
	@echo 'make test   lint and the test suite'
	@echo 'make ops    build the native ops and say what was built'
	@echo 'make jax    a second virtual environment, .venv-jax, for experiments/hlo_run.py and its tests'
	@echo 'make clean  remove the virtual environments and the demo'

install: $(VENV)/.installed

$(VENV)/.installed: setup.py constraints.txt
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.9, 3.10 or 3.11 found; TensorFlow 2.15 needs one: install it, or name it: make PYTHON=/path/to/python3.11'; exit 1; }
	@test -x $(BIN)/python || { echo 'Making $(VENV) with $(PYTHON) and installing the pinned dependencies (about a minute)'; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@$(BIN)/python -m dnnlib.ops.native.build
	@touch $@

demo: install
	@$(BIN)/python run_release.py demo $(DEMO_FLAGS)

test: install lint
	@$(BIN)/python -m pytest

lint: install
	@$(BIN)/ruff check .

ops: install
	@$(BIN)/python -m dnnlib.ops.native.build

jax: .venv-jax/.installed

.venv-jax/.installed: constraints-jax.txt
	@$(or $(PYTHON),python3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: JAX needs Python 3.11 or newer: make jax PYTHON=/path/to/python3.11'; exit 1; }
	@$(or $(PYTHON),python3) -m venv .venv-jax
	@.venv-jax/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-jax.txt '$(JAX)' pillow absl-py tqdm
	@touch $@

clean:
	rm -rf $(VENV) .venv-jax results/demo *.egg-info
