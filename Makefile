# Every target sets itself up: it makes .venv, or updates it where requirements.lock or pyproject.toml changed.
# PYTHON=python3.12 names the interpreter, ARGS="-k scoring" goes to pytest, the studies or the benchmarks, MNE_DATA is the
# folder of the recordings; TORCH=cpu takes PyTorch without CUDA, over 4 GB less, from PyTorch's own index.

PY := .venv/bin/python
ARGS ?=
# Images of containers set this to stay small; here every kernel would compile all it imports again, for five seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup book test test-all lint sync bench results leaderboard clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: ## make or update .venv
	@sh tools/setup.sh

book: setup ## run every chapter and build the book in _build/html
	@echo "book: chapters from their sources"
	@$(PY) tools/sync.py
	@$(PY) tools/build_book.py

test: setup lint ## run every check: environment, style, unit tests, chapters with FAST=True, the book in a browser
	@echo "test: environment"
	@$(PY) -m pip --disable-pip-version-check check
	@echo "test: unit tests, chapters and book, two at a time"
	@$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --verbose --durations 15 $(ARGS)

test-all: override ARGS += -m ""
test-all: test ## the same with every decoder of braindecode, not a few

lint: setup ## check the style of the code and that each notebook is in step with its source
	@echo "lint: ruff"
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@echo "lint: notebooks"
	@$(PY) tools/sync.py --check

sync: setup ## write badges, setup cells and notebooks from pyproject.toml and the chapters' .py
	@$(PY) tools/sync.py

bench: setup ## run the benchmarks that have something new to measure, and record what they found; ARGS="NAME" or "--force"
	@$(PY) -m benchmarks $(ARGS)

results: setup ## make those tables of book/results again that changed, from the real recordings (MNE_DATA); ARGS="--list" says why
	@$(PY) -m studies $(ARGS)

leaderboard: setup ## the same for the leaderboard, about two hours on two cores; goes on where it was stopped
	@$(PY) -m studies leaderboard $(ARGS)

clean: ## remove what was built; .venv and the caches of data and decoders and the cells of the leaderboard stay
	rm -rf _build build dist .pytest_cache .ruff_cache
