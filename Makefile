# Everything on a fresh machine: `make demo`, `make eval`, `make test`. The plain commands behind them are in README.md.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
ARGS ?=
COUNT ?= 64
SETS ?= output/synthetic_sets

BIN := $(VENV)/bin
RUN := $(VENV)/.installed
REPORT := $(VENV)/.installed-report
DEV := $(VENV)/.installed-dev

.PHONY: demo eval test lint check bench clean

demo: $(RUN)
	$(BIN)/python demo.py --overwrite $(ARGS)

eval: $(REPORT)
	$(BIN)/python -m datasets.synthetic --write $(SETS) --count $(COUNT) --overwrite
	@for set in h36m-p1 h36m-p2 3dpw mpi-inf-3dhp lsp; do echo "== $$set"; \
	  $(BIN)/python eval.py --data_dir $(SETS) --dataset $$set --check --overwrite $(ARGS) || exit 1; done
	@echo "== synthetic"
	$(BIN)/python eval.py --dataset synthetic --synthetic_size $(COUNT) --check --overwrite $(ARGS)
	@echo "== COCO"
	$(BIN)/python eval_coco.py --data_dir $(SETS) --overwrite $(ARGS)
	@echo "== DensePose-COCO"
	$(BIN)/python eval_coco.py --data_dir $(SETS) --densepose --overwrite $(ARGS)

test: $(DEV)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(DEV)
	$(BIN)/python -m ruff check .

check: lint
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

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

$(REPORT): requirements-report.txt $(RUN)
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements-report.txt
	touch $@

$(DEV): $(wildcard requirements-*.txt) $(RUN)
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements-dev.txt
	touch $@
