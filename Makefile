# Two commands: `make demo` and `make test`. Everything is installed into .venv by the first that needs it.

PYTHON ?= python3
# PyTorch publishes builds without CUDA on an index of its own; name it here to save gigabytes: make demo TORCH_INDEX=...
TORCH_INDEX ?=
BIN := .venv/bin
export HF_HUB_OFFLINE = 1

.PHONY: demo test quick check lowest docs clean
.DELETE_ON_ERROR:

demo: .venv/.user
	@$(BIN)/attar bench demo --out runs/demo
	@echo
	@echo "One set of the table, as a picture and with its card:"
	@ls runs/demo/datadam-10-0/preview.png runs/demo/datadam-10-0/README.md

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# What can be had in a minute: exact identities, messages, the house; no long runs.
quick: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --quick

# The lowest versions that pyproject.toml allows, in an environment of their own.
lowest: .venv/.python
	$(BIN)/python bench/lowest.py .venv/lowest $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed as $(PYTHON): sudo apt install python3 (or make PYTHON=python3.12 ...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv is missing: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# torch comes first and alone: resolved together with the rest, pip would look at every newer build as well.
.venv/.user: .venv/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/.user
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

docs: .venv/.dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo docs/_build/index.html

clean:
	rm -rf .venv runs docs/_build docs/methods docs/api docs/_verbs.md
