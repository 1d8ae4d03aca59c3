# Sets itself up: python3 (3.11 or newer) and make are all that is needed.
#   make demo       captions to mIoU in a small world, and a report to read: about eight minutes
#   make demo-tags  the main job alone, on a real model and the bundled captions
#   make test       every test
#   make test-fast  those without an engine or a cluster
#   make install EXTRA=gpu   for machines with GPUs

PYTHON ?= python3
EXTRA ?= cpu
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(EXTRA)
DEMO := data/demo

.PHONY: install demo demo-tags test test-fast lint clean

install: $(READY)

# The stamp is newer than pyproject.toml only once everything in it is installed and imports.
$(READY): pyproject.toml workflows/mend_torch_packages.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA),dev]'
	$(BIN)/python workflows/mend_torch_packages.py
	touch $@

demo: $(READY)
	$(BIN)/python workflows/demo.py --out $(DEMO)

demo-tags: $(READY)
	$(BIN)/python parsing/run.py --captions parsing/sample_captions.tsv --output data/tags

test: $(READY)
	$(BIN)/python -m pytest

test-fast: $(READY)
	$(BIN)/python -m pytest -m "not engine and not cluster"

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

clean:
	rm -rf $(VENV) $(DEMO)
