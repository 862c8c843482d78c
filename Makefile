# Everything on a fresh machine: `make demo`, `make test`. The plain commands behind them are in README.md.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
ARGS ?=

BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.PHONY: demo test lint check bench clean

demo: $(RUN)
	$(BIN)/python demo.py $(ARGS)

test: $(DEV)
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV)
	$(BIN)/python -m ruff check .

check: lint
	$(BIN)/python -m pytest $(ARGS)

bench: $(DEV)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV) || { rm -f $@; exit 1; }  # half an environment must not count as made

$(RUN): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements.txt
	touch $@

$(DEV): requirements-dev.txt $(RUN)
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements-dev.txt
	touch $@
