# Everything a person or CI runs. `make demo` and `make test` need nothing but Python 3.11+, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
DOCS_STAMP := $(VENV)/.installed-docs

# where Python may not write byte code, every process would compile what it imports
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test check soak soak-long numbers docs dist clean

READ_H5AD = "anndata>=0.12,<0.13" "pandas<3" pytz tzdata array-api-compat legacy-api-wrap natsort scverse-misc session-info2

install: $(STAMP)

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# pip compiles on one core; some libraries hold files that are not for this Python
COMPILE = $(BIN)/python -m compileall -qq -j 0 $(VENV) || true

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/pip
	$(PIP) --editable .
	@$(COMPILE)
	@touch $@

# efaar_benchmarking is a second opinion; its dependencies are gigabytes that the function compared here does not need,
# and it brings a package `tests`, which beside ours would hide it from every process that a test starts
# anndata for Python 3.11 takes no pandas above 2; where h5ad files are read, it has a pandas of its own
$(TEST_STAMP): pyproject.toml | $(BIN)/pip
	$(PIP) --editable ".[test]"
	$(PIP) --no-deps --target $(VENV)/efaar "efaar_benchmarking==1.0"
	$(PIP) --no-deps --target $(VENV)/anndata $(READ_H5AD)
	@$(COMPILE)
	@touch $(STAMP) $@

demo: install
	$(BIN)/cellssl demo

check: $(TEST_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2

test: check
	$(BIN)/python -m pytest -m "not soak and not soak_long" -n 2 --dist loadfile --no-loadscope-reorder

soak: $(TEST_STAMP)
	$(BIN)/python -m pytest -m "soak and not soak_long" -s --timeout 0

soak-long: $(TEST_STAMP)
	$(BIN)/python -m pytest -m soak_long -s --timeout 0

# `make numbers ONLY="demo-table digits"` makes some blocks; scripts/write_numbers.py --list lists them
numbers: $(TEST_STAMP)
	$(BIN)/python scripts/write_numbers.py $(if $(ONLY),--only $(ONLY))

$(DOCS_STAMP): $(STAMP)
	$(PIP) --editable ".[docs]"
	@$(COMPILE)
	@touch $@

# site/index.html, to be opened in a browser or put on any web server
docs: $(DOCS_STAMP)
	$(BIN)/python scripts/build_site.py

# the sdist and the wheel, in dist/
dist: $(TEST_STAMP)
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf $(VENV) demo artifacts dist site
