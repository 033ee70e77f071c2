# The commands of this project; .venv is made when it is first needed.
PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet -c constraints.txt

.PHONY: demo test check docs guests dist wheel versions

demo: .venv/demo.stamp
	$(BIN)/oodles demo

test: .venv/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

check: .venv/check.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/docs.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

# the guides to other libraries, which need another torch
guests: .guests/stamp
	OMP_NUM_THREADS=1 .guests/bin/python docs/guests.py

# the wheel and the source archive of a release
dist: .venv/dist.stamp
	rm -rf dist
	$(BIN)/python -m build --quiet

# both, checked in an empty environment with the newest torch, or another: make wheel TORCH=2.13.0
wheel: dist
	$(PYTHON) tests/wheel.py $(TORCH:%=torch==%) $(TAG:%=--tag %)

# the wheel with several versions of torch, each downloaded: make versions TORCH='2.6.0 2.13.0' PYTHON=python3.12
versions: dist
	$(PYTHON) tests/versions.py $(TORCH)

.guests/stamp: pyproject.toml docs/guests.txt
	$(PYTHON) -m venv .guests
	.guests/bin/python -m pip install --quiet -r docs/guests.txt -e .
	touch $@

.venv/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	touch $@

.venv/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[test]'
	touch $@

.venv/check.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[check]'
	touch $@

.venv/docs.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[docs]'
	touch $@

.venv/dist.stamp: constraints.txt | $(BIN)/python
	$(INSTALL) build
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv
