# Everything a clone needs: `make demo` and `make test`. Python's own venv, no tool beside Debian's base packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
SOURCES := $(wildcard cython_ext/*.pyx cython_ext/*.pxd) pyproject.toml requirements/lock.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-peers check soak bench docs clean compliance

demo: $(STAMPS)/demo
	$(BIN)/ocs demo

test: $(STAMPS)/test
	$(BIN)/python -m pytest tests/unit tests/property tests/conformance tests/integration

# Foreign clients and witnesses: python-diameter, tshark.
test-peers: $(STAMPS)/test
	$(BIN)/python tools/fetch_tools.py tshark
	$(BIN)/python -m pytest tests/peers

check: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_dictionary.py --check
	$(BIN)/python tools/compliance.py --check

# Longer than a test run may take: a million mutations against the node.
soak: $(STAMPS)/test
	$(BIN)/python -m tests.property.fuzz_node --count 1000000 --seed 1

bench: $(STAMPS)/demo
	$(BIN)/python -m bench micro

docs: $(STAMPS)/docs
	$(BIN)/mkdocs build --strict

compliance: $(STAMPS)/dev
	$(BIN)/python tools/compliance.py

$(STAMPS)/venv:
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/demo: $(STAMPS)/venv $(SOURCES)
	@echo "installing tollgate-ocs and its compiled extensions"
	$(PIP) install -c requirements/lock.txt -e ".[demo]"
	@touch $@

$(STAMPS)/test: $(STAMPS)/venv $(SOURCES)
	@echo "installing tollgate-ocs with what its tests need"
	$(PIP) install -c requirements/lock.txt -e ".[demo,test]"
	@touch $@ $(STAMPS)/demo

$(STAMPS)/dev: $(STAMPS)/test
	$(PIP) install -c requirements/lock.txt -e ".[demo,test,dev]"
	@touch $@

$(STAMPS)/docs: $(STAMPS)/venv
	$(PIP) install -c requirements/lock.txt -e ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .tools cython_ext/*.c cython_ext/*.so .pytest_cache .mypy_cache .ruff_cache
