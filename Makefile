# `make demo` and `make test` work on a fresh machine with python3, git and make; the rest is for development.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo

.PHONY: demo test test-fast test-slow test-all lint format docs wheel lock clean

demo: $(VENV)/.installed
	$(BIN)/python main.py --config=configs/glyphs_mhp.py --workdir=$(DEMO)
	$(BIN)/python -m mhe_jax baseline --config=configs/glyphs_mhp.py --compare=$(DEMO)/result.json

# All but a sixth of the tests, in about half of the time.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# The others: those that train more than one run, start processes, or repeat a test on one more mesh.
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Both, in one pass.
test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What a change usually breaks: readers, configs, layout, optimizers, metrics; no network is compiled.
FAST := tests/data tests/ops/test_ranking.py tests/ops/test_sampling.py tests/train/optim tests/train/test_sections.py \
	tests/train/test_old_configs.py tests/test_configs.py tests/test_labels.py tests/test_layout.py tests/test_package.py \
	tests/test_public.py tests/test_registry.py tests/test_settings.py
test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(FAST)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site is in build/site; a broken link, or a public name without a docstring, fails.
docs: $(VENV)/.installed-docs
	JAX_PLATFORMS=cpu NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The wheel in a fresh environment, from an empty folder.
wheel:
	PYTHON=$(PYTHON) .ci/wheel

# Pins of all that a plain installation takes. The suite is run with the new ones before they are committed.
LOCK := uv pip compile --quiet --upgrade --annotation-style=line --custom-compile-command="make lock"
lock: $(VENV)/.installed-test
	$(BIN)/$(LOCK) --python-version=3.11 --output-file=launch/requirements-py311.txt setup.cfg
	$(BIN)/$(LOCK) --python-version=3.12 --output-file=launch/requirements-py312.txt setup.cfg

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable .[test]
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable .[docs]
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
