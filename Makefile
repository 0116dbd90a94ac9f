# Everything a person or CI runs. `make demo` and `make test` need nothing but Python 3.11+, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: install demo test check soak soak-long numbers docs clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

# efaar_benchmarking is a second opinion; its dependencies are gigabytes that the function compared here does not need,
# and it brings a package `tests`, which beside ours would hide it from every process that a test starts
$(TEST_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/efaar "efaar_benchmarking==1.0"
	@touch $@

demo: install
	$(BIN)/cellssl demo

check: $(TEST_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -m "not soak and not soak_long" -n 2 --dist worksteal

soak: $(TEST_STAMP)
	$(BIN)/python -m pytest -m "soak and not soak_long" -s --timeout 0

soak-long: $(TEST_STAMP)
	$(BIN)/python -m pytest -m soak_long -s --timeout 0

# `make numbers ONLY="demo-table digits"` makes some blocks; scripts/write_numbers.py --list lists them
numbers: $(TEST_STAMP)
	$(BIN)/python scripts/write_numbers.py $(if $(ONLY),--only $(ONLY))

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	@touch $@

# site/index.html, to be opened in a browser or put on any web server
docs: $(DOCS_STAMP)
	$(BIN)/python scripts/build_site.py

clean:
	rm -rf $(VENV) demo artifacts site
