# `make localnet` runs a whole subnet here; `make test` runs the tests. Both install what they need first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: setup localnet test lint docs bench soak screenshots page-checks compile interpret clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): requirements.lock setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PYTHON=$(BIN)/python sh .ci/install
	touch $@

localnet: setup
	$(BIN)/iota localnet $(ARGS)

test: setup interpret
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The reference from the code: docs/reference, which is committed, and build/docs with every public function.
docs: setup
	$(BIN)/python scripts/reference.py $(ARGS)

bench: setup
	for script in benchmarks/*.py; do $(BIN)/python $$script --json || exit 1; done

soak: setup interpret
	$(BIN)/python -m pytest -m "e2e or soak" $(ARGS)

# Both need Chromium.
screenshots: setup
	$(BIN)/python scripts/screenshots.py $(ARGS)

page-checks: setup
	$(BIN)/python scripts/page_checks.py $(ARGS)

# Machine code of the core's hot part, from the same sources: for a validator of thousands of miners. Needs a C compiler.
compile: setup
	IOTA_COMPILE=1 $(BIN)/python setup.py -q build_ext --inplace

# Back to the sources: the tests plant bugs in them.
interpret:
	rm -f iota_subnet/*.so iota_subnet/core/*.so

clean: interpret
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
