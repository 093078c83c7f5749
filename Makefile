# Convolution, Verified: every command sets up what it needs, once.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
SITE := _build/html
PYTEST := $(RUN) -m pytest -q

.PHONY: help book pdf live test test-units test-pages test-all lab notebooks gpu-test bench lint clean

help:
	@echo "make book       build the website and print the path to open"
	@echo "make pdf        print the website into one PDF, which it then offers (needs Chromium)"
	@echo "make live       build the website with its laboratory, in which each page runs in the reader's browser"
	@echo "make test       run the tests: engine, kernels, notebooks, site, browser"
	@echo "make test-all   run these and what takes long"
	@echo "make lab        build the website and open copies of its notebooks in JupyterLab"
	@echo "make notebooks  run all notebooks and store their outputs"
	@echo "make gpu-test   run the engine's tests with kernels on this machine's CUDA device"
	@echo "make bench      measure the engine against its peers, into benchmarks/results"
	@echo "make lint       check style"
	@echo "make clean      remove what was built (the environment too)"

book: $(READY)
	$(VENV)/bin/jupyter-book build . -W -n --keep-going
	@echo
	@echo "Open this in a browser: $(abspath $(SITE))/index.html"

pdf: book
	$(RUN) book/_ext/pdf.py $(SITE)

live: export KONVLIB_LIVE := 1
live: book
	$(RUN) book/_ext/laboratory.py $(SITE)
	@echo
	@echo "A browser runs it from a server only: $(RUN) -m http.server --directory $(SITE)"

# Pages wait for a browser and for the kernels of notebooks, so they run beside the units.
test: lint
	$(MAKE) --no-print-directory --jobs 2 --output-sync=line test-units test-pages

test-units: $(READY)
	$(PYTEST) -n 2 -m "not browser and not slow" --durations 10 --doctest-modules tests konvlib

test-pages: $(READY)
	$(PYTEST) -m "browser and not slow" tests/book
	$(PYTEST) -n 2 -m "browser and not slow" tests/explore
	$(PYTEST) -m "browser and not slow" tests/live
	$(PYTEST) -n 2 --dist loadfile --nbval notebooks book

test-all: test
	$(PYTEST) -n 2 -m slow tests
	$(RUN) -m tests.engine.fuzz --seconds 300 --seed 1

lab: book
	$(RUN) -m jupyterlab _build/lab

notebooks: $(READY)
	$(RUN) -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*/*.ipynb
	$(RUN) -m nbconvert --to notebook --inplace --coalesce-streams notebooks/*/*.ipynb

gpu-test: $(READY)
	$(PYTEST) --record tests/engine tests/kernels

bench: $(READY)
	$(RUN) -m benchmarks.sequences_cpu
	$(RUN) -m benchmarks.overhead_cpu
	$(RUN) -m benchmarks.scale_cpu
	$(RUN) -m benchmarks.strips_cpu
	$(RUN) -m benchmarks.sequences_gpu
	$(RUN) -m benchmarks.layers_gpu
	$(RUN) -m benchmarks.konvolution_gpu

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m basedpyright
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

clean:
	rm -rf $(VENV) _build build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first, so that no package that needs it brings another build of it.
$(READY): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is missing: install it, or say which with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V): say which with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) (once; some minutes)"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
