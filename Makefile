# Each target makes .venv first if it has to; a second call goes straight to work.
#
#   make demo     train an optimiser by reinforcement learning, then use it on real data
#   make test     the tests
#   make check    ruff and mypy
#   make speed    steps, training, search and few-shot learning per second, against rivals
#   make site     the pages and the leaderboard, in build/site
#
# PYTHON chooses the interpreter (3.11 to 3.13), VENV the folder of the environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Quiet: setuptools warns of every editable install from a checkout.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Small arrays: more threads than one only get into each other's way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check speed site

demo: $(VENV)/.installed
	$(BIN)/python experiments/demo.py

speed: $(VENV)/.installed
	$(BIN)/python experiments/speed.py

site: $(VENV)/.installed-docs
	$(BIN)/metagym leaderboard build --out build/site

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy metagym envs agents

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV)"
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) -e '.[docs]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev]'
	touch $@
