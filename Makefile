# `make demo` and `make test` need only Python 3.11 or later and make. PIP_ARGS reaches every pip install, e.g.
# PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for the small CPU builds of torch.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast docs release-check perf campaign faults gpu clean

# Real photographs of solar cells stand beside the drawn set; ELPV=0 leaves them, and 90 MB, out.
ELPV ?= 1
DEMO_0 := procedural,textile
DEMO_1 := procedural,textile,elpv

demo: $(VENV)/.installed $(VENV)/.elpv-$(ELPV)
	$(BIN)/bench run --preset smoke --datasets $(DEMO_$(ELPV))

$(VENV)/.elpv-0: | $(BIN)/python
	touch $@

$(VENV)/.elpv-1: $(VENV)/.installed
	@echo "The images of elpv-dataset (Deitsch et al., Solar Energy 2019) are licensed CC BY-NC-SA 4.0: not for commercial use."
	@echo "make demo ELPV=0 does without them."
	$(BIN)/pip install $(PIP_ARGS) -e ".[elpv]"
	touch $@

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal  # one thread per worker: two workers on two cores

test-fast: $(VENV)/.installed-dev  # about a minute; no check of style; the slowest tests are shown: mark them `slow`
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow and not campaign and not gpu" --durations 5

docs: $(VENV)/.installed-docs  # dist/site/index.html, which opens without a server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f docs/site/mkdocs.yml

release-check: $(VENV)/.installed-dev  # wheel and sdist in dist/, each tried out in a clean environment outside of the repository
	PIP_ARGS="$(PIP_ARGS)" $(BIN)/python -m tests.release

perf: $(VENV)/.installed-dev
	for script in tests/perf/*.py tests/perf/embedded; do echo "== $$script"; $(BIN)/python -m tests.perf.$$(basename $$script .py) || exit 1; done

campaign: $(VENV)/.installed-dev
	$(BIN)/pytest -m campaign

faults: $(VENV)/.installed-dev  # kills sweeps at random, by each executor; many minutes
	$(BIN)/python -m tests.faults

gpu: $(VENV)/.installed-dev
	$(BIN)/pytest -m gpu -rs tests/gpu
	$(BIN)/python -m tests.gpu.throughput

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install $(PIP_ARGS) -e .
	touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install $(PIP_ARGS) -e ".[docs]"
	touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install $(PIP_ARGS) -e ".[dev]"
	touch $(VENV)/.installed $(VENV)/.installed-docs $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
