# Each target works alone on a fresh clone: it makes the virtual environment and installs what is pinned first.
VENV ?= .venv
BIN := $(VENV)/bin
# The newest installed Python that works here: dnnlib/lanes.py knows which versions do.
WORKS = import sys, ensurepip, ssl, sqlite3, dnnlib.lanes; sys.exit(not dnnlib.lanes.IS_SUPPORTED)
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.10 python3.9 python3; do \
	$$p -c '$(WORKS)' >/dev/null 2>&1 && { echo $$p; break; }; done)
LANE = from dnnlib import lanes; print(lanes
DEMO_FLAGS ?=
TEST_FLAGS ?=
WORKERS ?= 2
# Of setup.py, for a virtual environment that is not there yet: EXTRAS=test,beam tests attribute-beam too.
EXTRAS ?= test
JAX ?= jax==0.10.2

.PHONY: help install demo test lint ops jax clean
help:
	@echo 'make demo   train on bundled digits, issue two users, attribute their images (some minutes)'
	@echo 'make test   lint and the test suite, in two processes (WORKERS=0: in one)'
	@echo 'make ops    build the native ops and say what was built'
	@echo 'make jax    a second virtual environment, .venv-jax, for training/xla_run.py and its tests'
	@echo 'make clean  remove the virtual environments and the demo'
	@echo 'PYTHON=/path/to/python3.11 chooses another Python than the newest installed one (3.9 to 3.13), VENV=.venv-3.11 another folder'

install: $(VENV)/.installed

$(VENV)/.installed: setup.py constraints.txt constraints-3.12.txt
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.9 to 3.13 found, which TensorFlow needs: install one with its venv module, or name it: make PYTHON=/path/to/python3.13'; exit 1; }
	@test -x $(BIN)/python || { \
		echo "Making $(VENV) with $(PYTHON) and TensorFlow $$($(PYTHON) -c '$(LANE).TENSORFLOW)') (about a minute; make PYTHON=... takes another)"; \
		$(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $$($(BIN)/python -c '$(LANE).CONSTRAINTS)') -e '.[$(EXTRAS)]'
	@$(BIN)/python -m dnnlib.ops.native.build
	@touch $@

demo: install
	@$(BIN)/python run_release.py demo $(DEMO_FLAGS)

test: install lint
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile $(TEST_FLAGS)

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
	rm -rf .venv .venv-* results/demo *.egg-info
