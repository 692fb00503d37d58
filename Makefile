# `make demo` and `make test` need nothing but Python 3.11 or newer: they build .venv themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Also where the environment forbids byte code: the tests start many processes, and each would compile all modules again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test slow coverage lint tutorials notebooks site clean

demo: $(VENV)/.installed
	$(BIN)/agl-ref demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --ignore=tests/crosscheck

# What `make test` leaves out; tests/crosscheck needs other frameworks and has an environment of its own in .ci/run.
slow: $(VENV)/.installed-course
	$(BIN)/python -m pytest -p no:nbmake -n 2 -m slow --ignore=tests/crosscheck tests

# Compiled kernels are not measured: the engine's tests run a second time without the JIT.
coverage: $(VENV)/.installed-course
	$(BIN)/python -m pytest -p no:nbmake -n 2 --dist loadfile -m "not slow" --cov --cov-report= tests agl_ref --ignore=tests/crosscheck
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -p no:nbmake -n 2 --dist loadfile -m "not slow" --cov --cov-append --cov-fail-under=95 tests/engine --ignore=tests/engine/test_bits.py

lint: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet ruff==0.17.6 import-linter==2.17
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

tutorials: $(VENV)/.installed-tutorials
	$(BIN)/python -m jupyter lab tutorials

notebooks: $(VENV)/.installed-course
	$(BIN)/python -m pytest --nbmake -n 2 tutorials/*.ipynb tutorials/solutions/*.ipynb

# Writes build/site/index.html, which opens from the disk; Node's npm fetches MathJax for it.
site: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[site]'
	npm install --prefix build --silent --no-audit --no-fund mathjax@3.2.2
	$(BIN)/python tutorials/site/build.py

# --no-compile: Python compiles the modules that the demo imports, pip would compile all, which takes half of its time.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.installed-tutorials: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[tutorials]'
	touch $@

$(VENV)/.installed-course: $(VENV)/.installed-test $(VENV)/.installed-tutorials
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[course,nir]'
	touch $@

clean:
	rm -rf $(VENV) build .pytest_cache .hypothesis .ruff_cache .coverage dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
