# make demo | test | lint | bench | docs: each builds .venv by itself when it is missing or old.
# Needs Python 3.11+ and make. Useful settings:
#   make demo PYTHON=python3.12              which interpreter to build .venv with
#   make demo PIP_ARGS=...                   further arguments of pip, e.g. for PyTorch's CPU wheels
#   make bench QUICK=1                       try every benchmark out, in its smallest setting

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint format bench docs clean

VENV     := .venv
PY       := $(VENV)/bin/python
# python3 may be older than 3.11 while a newer one stands beside it.
PYTHON   ?= $(shell for p in python3 python python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PIP_ARGS ?=
PIP      := $(PY) -m pip --disable-pip-version-check
ROOT     := $(CURDIR)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; give one: make PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv"; exit 1; }
	$(PIP) install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	$(PIP) install --quiet $(PIP_ARGS) -c constraints.txt -e '.[docs]'
	@touch $@

install: $(VENV)/.installed  ## build .venv with the package (editable) and the developer tools

demo: $(VENV)/.installed  ## train a prompt policy on the embedded model, compare it on held-out examples
	$(PY) -m promptgym.cli demo

# The tests and the type checker see the package as users get it: the wheel, from outside the
# checkout. The editable install is put back at the end, whatever the outcome.
test: $(VENV)/.installed  ## build the wheel, install it, run pytest and mypy against it
	rm -rf build dist
	$(PY) -m build --wheel --outdir dist .
	@set -e; work=$$(mktemp -d); \
	trap 'cd "$(ROOT)"; rm -rf "$$work"; $(PIP) install --quiet $(PIP_ARGS) --no-deps -e "$(ROOT)"' EXIT; \
	$(PIP) install --quiet --force-reinstall --no-deps dist/*.whl; \
	cd "$$work"; \
	echo "pytest, on the installed wheel"; \
	PROMPTGYM_TEST_INSTALLED=1 "$(ROOT)/$(PY)" -P -m pytest -c "$(ROOT)/pyproject.toml" \
	  --rootdir "$(ROOT)" -m "not slow" -n logical --maxprocesses 8 --dist worksteal \
	  "$(ROOT)/tests" $(PYTEST_ARGS); \
	echo "mypy --strict, on the installed wheel"; \
	"$(ROOT)/$(PY)" -m mypy --config-file "$(ROOT)/pyproject.toml" \
	  --cache-dir "$(ROOT)/.mypy_cache/wheel" -p promptgym

test-slow: $(VENV)/.installed  ## the tests marked slow, on the checkout
	$(PY) -m pytest -m slow tests

# A type checker does not see that envs/, agents/ and baselines/ are parts of promptgym, so it is
# shown a folder of links in which they are.
lint: $(VENV)/.installed  ## ruff, ruff format, mypy --strict on the checkout
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@rm -rf build/typed && mkdir -p build/typed/promptgym
	@ln -s $(ROOT)/promptgym/* $(ROOT)/envs $(ROOT)/agents $(ROOT)/baselines build/typed/promptgym/
	cd build/typed && $(ROOT)/$(PY) -m mypy --config-file $(ROOT)/pyproject.toml \
	  --cache-dir $(ROOT)/.mypy_cache/checkout -p promptgym

format: $(VENV)/.installed  ## let ruff put the code in order
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# QUICK=1 shows that these run, in a few minutes; its figures mean nothing. The study of learning
# takes hours on two cores and keeps the cells it has; landscapes.py, rewriter.py, rewriters.py and
# multi.py are started by hand.
quick    = $(if $(filter 1,$(QUICK)),$(1),$(2))
LEARNING = --out $(call quick,build/learning,runs/learning)
bench: $(VENV)/.installed  ## measure speed, then learning; QUICK=1 only tries everything out
	$(PY) benchmarks/import_time.py $(call quick,--repeats 3)
	$(PY) benchmarks/scoring.py $(call quick,--rounds 2 --prompts 4)
	$(PY) benchmarks/scoring.py --plot build/cost.png $(call quick,--quick)
	$(PY) benchmarks/options.py $(call quick,--shape gpt2:2x64 --rounds 1)
	$(PY) benchmarks/overhead.py --store $(call quick,--rounds 1)
	$(PY) benchmarks/overhead.py --driver $(call quick,--rounds 1)
	$(PY) benchmarks/resume.py $(call quick,--methods opro --points 2)
	$(PY) benchmarks/cache.py $(call quick,--scores 50000 --rounds 1)
	$(PY) benchmarks/env_steps.py --seconds $(call quick,0.3 --sizes 1 8,5)
	$(PY) benchmarks/table_steps.py $(call quick,--steps 50 --rounds 1)
	$(PY) benchmarks/forged.py leaderboard/submissions/tiny/ape
	$(PY) benchmarks/http_calls.py $(call quick,--calls 400 --rounds 2)
	$(PY) benchmarks/leaderboard_page.py $(call quick,--methods 10 --tasks 3 --rounds 1)
	$(PY) benchmarks/ray_workers.py $(call quick,--texts 256 --repeats 1)
	$(call quick,rm -rf build/learning)
	$(PY) benchmarks/learning.py run $(LEARNING) $(call quick,--tasks review-author --seeds 1 --prompts 20)
	$(PY) benchmarks/learning.py report $(LEARNING)

docs: $(VENV)/.docs-installed  ## build the documentation into site/
	$(PY) docs/build.py

clean:  ## remove what was built (.venv and runs/ stay)
	rm -rf build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/reference
