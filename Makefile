# From a clone: `make demo` and `make test`. Needs make, gcc, Python 3.11 or later with its headers and venv module.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
BUILT_FROM := pyproject.toml $(wildcard cython_ext/*.pyx cython_ext/*.pxd)
PYTEST := $(BIN)/python -m pytest
OWN_PROCESS := tests/integration/test_supervisor.py
# Where `make docs` builds: apart, so that the site's tools cannot change what the product is tested with.
DOCS_VENV := .venv-docs

.DELETE_ON_ERROR:
.PHONY: help demo test test-peers tools redis check check-style check-types check-imports check-generated check-required \
	check-docs check-speed soak bench docs generate lock clean

help:
	@echo "demo        a whole charged session, played by a foreign Diameter client"
	@echo "test        everything that needs no foreign witness; unpacks Redis if the machine has none"
	@echo "test-peers  foreign clients and witnesses (python-diameter, tshark)"
	@echo "check       linters, types, import contracts, generated files"
	@echo "check-speed instruction counts of the hot leaves, against those kept (callgrind)"
	@echo "soak        the long fuzz run, and 100,000 rows imported"
	@echo "bench       micro-benchmarks of the parts; python -m bench --help for the rest"
	@echo "docs        the documentation site, in site/"
	@echo "generate    write the generated files anew (dictionary, docs/compliance.md)"
	@echo "lock        write requirements/*.txt anew; UPGRADE=1 takes newer versions"
	@echo "clean       remove all that was built or fetched"

demo: $(STAMPS)/demo
	@$(BIN)/ocs demo

# The supervisor's tests send signals to the process that they run in, so they have one of their own, and go first.
test: $(STAMPS)/test redis
	@$(PYTEST) $(OWN_PROCESS)
	@$(PYTEST) tests/unit tests/property tests/conformance tests/integration --ignore=$(OWN_PROCESS)

test-peers: tools $(STAMPS)/test
	@$(PYTEST) tests/peers

# Tools of other projects that tests use as witnesses; exit status 3 if one cannot be had (ALLOW_MISSING=name,... lets it be).
tools:
	@$(PYTHON) tools/fetch_tools.py tshark

# The machine's Redis server, or Debian's unpacked in .tools: nothing is installed, no service is started.
redis:
	@$(PYTHON) tools/fetch_tools.py redis-server

# All of them, even if one fails.
check: $(STAMPS)/test
	@$(MAKE) --keep-going --no-print-directory check-style check-types check-imports check-generated check-required

check-style: $(STAMPS)/test
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .

check-types: $(STAMPS)/test
	$(BIN)/mypy

check-imports: $(STAMPS)/test
	$(BIN)/lint-imports

check-generated: $(STAMPS)/test
	$(BIN)/python tools/generate_dictionary.py --check
	$(BIN)/python tools/compliance.py --check

# Every requirement of this release has a test.
check-required: $(STAMPS)/test
	$(BIN)/python tools/compliance.py --check-required

# A slow-down shows in instructions where times only show the machine; `tools/check_speed.py --update` keeps new counts.
check-speed: $(STAMPS)/demo
	@$(PYTHON) tools/fetch_tools.py valgrind
	@$(BIN)/python tools/check_speed.py

# Longer than a test run may take: a million mutations against the node; imports of 100,000 rows, each within a minute.
soak: $(STAMPS)/test redis
	@$(BIN)/python -m tests.property.fuzz_node --count 1000000 --seed 1
	@$(BIN)/python -m tests.support.import_soak --count 100000 --within 60

bench: $(STAMPS)/demo
	@$(BIN)/python -m bench micro

docs: $(DOCS_VENV)/.stamp
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs --quiet build --strict
	@echo "built: site/index.html"

# The site builds, its links lead somewhere, its commands exist.
check-docs: docs $(STAMPS)/test
	@$(PYTEST) tests/unit/test_docs.py tests/unit/test_compliance.py

generate: $(STAMPS)/test
	@$(BIN)/python tools/generate_dictionary.py
	@$(BIN)/python tools/compliance.py

lock: $(STAMPS)/venv
	@$(PIP) install uv
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

$(STAMPS)/venv:
	@$(PYTHON) tools/prerequisites.py
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

# The hashes of the lock are checked; the product itself is built with the locked tools, without isolation.
$(STAMPS)/demo: $(STAMPS)/venv requirements/demo.txt $(BUILT_FROM)
	@echo "installing the locked dependencies"
	@$(PIP) install --require-hashes -r requirements/demo.txt
	@echo "compiling and installing tollgate-ocs"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test: $(STAMPS)/demo requirements/test.txt
	@echo "installing what the tests and checks need"
	@$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

$(DOCS_VENV)/.stamp: requirements/docs.txt
	@echo "installing the site's tools"
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/docs.txt
	@touch $@

clean:
	@rm -rf $(VENV) $(DOCS_VENV) .tools build dist site *.egg-info cython_ext/*.c cython_ext/*.so
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
