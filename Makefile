# make demo      a talking head from the shipped clip, into out/demo (CLIP=my.wav for another one)
# make test      the whole test suite, in two processes (ARGS="-n 0 -k name": some of it, in one)
# make quality   ruff (rules, formatting), import-linter (which wing imports which) and mypy (types of the library)
# make style     what ruff can mend, mended
# make docs      the documentation as a site, into site/: open site/index.html
# make fuzz      damaged files of all kinds, for minutes: nothing may break a reader (ARGS="--seconds 1200 --seed 1")
# make kills     every command killed at random points, on full disks, with a wrong clock (ARGS="--points 20 --seed 1")
# make dist      wheel and sdist; make release-check: both installed in empty environments; make audit: known holes, SBOM
# make bench     timings and memory of this machine, as ratios (ARGS=--long: an hour of audio, too)
# make clean     removes what commands wrote; make clean-all removes .venv too
#
# All of them make .venv from nothing. They need Python 3.11 or newer and a Python package index: no root, no system
# package. Both can be interrupted and started again.

# The first interpreter that is new enough; `make demo PYTHON=/path/to/python` takes another.
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
CLIP := facetalk_hf/assets/demo.wav
ARGS :=
INSTALL := $(PY) -m pip install --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test quality style docs fuzz kills dist release-check audit bench clean clean-all

help:
	@sed -n 's/^# make /  make /p' Makefile

demo: $(VENV)/.ready-demo
	$(PY) -m facetalk_hf.cli generate "$(CLIP)" --output-dir out/demo
	@echo
	@echo "See out/demo/$(basename $(notdir $(CLIP))).mp4; the .glb beside it opens in Blender or any glTF viewer."

test: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# mypy reads the types of the versions that the tests run with: one environment for both.
quality: $(VENV)/.ready-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m mypy

style: $(VENV)/.ready-test
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# --strict: a broken link is an error. The docstrings are read, not imported: no torch is needed.
docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo "See site/index.html; for its search, too: $(PY) -m http.server --directory site"

fuzz: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests/support $(PY) tests/support/fuzz.py $(ARGS)

kills: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests/support $(PY) tests/support/kills.py $(ARGS)

dist: $(VENV)/.ready-test
	$(PY) -m build --no-isolation --outdir dist .

release-check: dist
	$(PY) tests/support/bare_install.py $(ARGS)

# In an environment of its own: the tools are not part of what is audited.
audit: dist
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit cyclonedx-bom
	$(PY) tests/support/runtime_requirements.py > build/requirements.txt
	build/audit/bin/cyclonedx-py environment $(VENV) --output-file dist/sbom.json
	build/audit/bin/pip-audit --requirement build/requirements.txt --no-deps --disable-pip --strict

bench: $(VENV)/.ready-demo
	$(PY) benchmarks/benchmark.py $(ARGS)

clean:
	rm -rf out build dist site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find facetalk_hf tests training pipelines benchmarks spaces_app -name __pycache__ -prune -exec rm -rf {} +

clean-all: clean
	rm -rf $(VENV)

# A stamp says that an environment is complete. It is touched last, and a change of pyproject.toml or constraints.txt
# makes it old. An install that was broken off leaves its mark: half a package looks whole to pip, so start over then.
define venv
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@if [ -e $(VENV)/.installing ]; then echo "An install was broken off: making $(VENV) anew"; rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(VENV)/.installing
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
		{ echo "$(VENV) cannot be used: remove it and start again" >&2; exit 1; }
endef

define ready
	@rm -f $(VENV)/.installing
	@touch $@
endef

# torch from PyPI brings gigabytes of CUDA on Linux. Without a GPU, its CPU build does the same work:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX :=
define torch
	@if [ -n "$(TORCH_INDEX)" ]; then $(INSTALL) --index-url "$(TORCH_INDEX)" torch; fi
endef

$(VENV)/.ready-demo: pyproject.toml constraints.txt
	$(venv)
	$(torch)
	$(INSTALL) -e .
	$(ready)

$(VENV)/.ready-test: pyproject.toml constraints.txt
	$(venv)
	$(torch)
	$(INSTALL) -e ".[demo,dev,docs,train,usd]"
	@touch $(VENV)/.ready-demo $(VENV)/.ready-docs
	$(ready)

$(VENV)/.ready-docs: constraints.txt
	$(venv)
	$(INSTALL) mkdocs-material "mkdocstrings[python]" ruff
	$(ready)
