# CONTRIBUTING.md describes demo, test, check, docs, cases, cuda, kill and mutants; benchmarks/ describes the others.
# Each target creates the environment it needs in .venv, once.
.PHONY: demo test test-times check docs cases bench peers draw-check export-check cuda reproduce fuzz corrupt chaos claims-null kill mutants slurm clean
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The first suitable Python on the path; PYTHON=… names another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
PYTEST ?= $(BIN)/python -m pytest
# Compile now: every later start is seconds faster, even if PYTHONDONTWRITEBYTECODE is set.
COMPILE := --compile-bytecode
INSTALL := $(BIN)/uv pip install --quiet $(COMPILE) --python $(BIN)/python

demo: $(VENV)/.installed
	$(BIN)/cnnbench train name=demo trainer.epochs=40 scheduler=one_cycle optimizer.lr=0.004

test: $(VENV)/.developing
	$(PYTEST) -n 2 --dist worksteal $(TESTS)

# What each test costs in processor time.
test-times: $(VENV)/.developing
	$(PYTEST) -n 2 --dist worksteal -p processor_time $(TESTS)

check: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Build the documentation in build/docs. A broken link fails, and so does a page that loads anything from the network.
docs: $(VENV)/.documenting
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@! grep -rlE '<(script|link|img)[^>]+(src|href)="?https?:' build/docs --include='*.html'
	@echo "The documentation is in build/docs/index.html"

# Scripts outside the checkout that reproduce faults; exit code 0 means that the fault is fixed.
CASES ?= ../shared/cases
cases: $(VENV)/.developing
	@if [ ! -d "$(CASES)" ]; then echo "No cases here: $(CASES) is not a folder."; exit 0; fi; \
	right=0; all=0; \
	for case in "$(CASES)"/[!_]*.sh; do \
		all=$$((all + 1)); verdict=WRONG; \
		if said=$$(CB="$(CURDIR)/$(BIN)/cnnbench" bash "$$case" 2>&1); then verdict=right; right=$$((right + 1)); fi; \
		if [ "$$verdict" = right ]; then said=$$(echo "$$said" | tail -n 1); fi; \
		printf '%-6s %s: %s\n' "$$verdict" "$$(basename "$$case" .sh)" "$$said"; \
	done; \
	echo "$$right of $$all cases right"; [ "$$right" = "$$all" ]

# On a machine with an NVIDIA GPU: run the tests that need it, then measure an epoch.
cuda: $(VENV)/.developing
	$(PYTEST) -m cuda tests/test_cuda.py
	$(BIN)/python benchmarks/cuda_time.py

# Measure speed, in one table; PARTS="start peers" selects parts. `make peers` installs the programs to compare with.
bench: $(VENV)/.developing
	$(BIN)/python benchmarks/bench.py $(if $(PARTS),--only $(PARTS))

# Whether the page of `cnnbench draw` answers as torch does: in Chromium, on MNIST's test images, for every family.
draw-check: $(VENV)/.developing
	$(BIN)/python benchmarks/draw_check.py

peers: $(VENV)/.developing
	$(INSTALL) --group peers

# Export every family of networks to every format, check the files, and time one image; benchmarks/REACH.md has a record.
export-check: $(VENV)/.developing
	$(BIN)/python benchmarks/export_zoo.py

reproduce: $(VENV)/.developing
	$(BIN)/python benchmarks/fast_recipe.py

fuzz: $(VENV)/.developing
	$(BIN)/python tests/faults/fuzz_images.py

corrupt: $(VENV)/.developing
	$(BIN)/python tests/faults/corrupt.py

chaos: $(VENV)/.developing
	$(BIN)/python tests/faults/sweep_chaos.py

claims-null: $(VENV)/.developing
	$(BIN)/python tests/faults/claim_simulation.py

kill: $(VENV)/.developing
	$(BIN)/python tests/faults/kill_matrix.py
	$(BIN)/python tests/faults/io_errors.py

mutants: $(VENV)/.developing
	$(BIN)/python tests/faults/mutants.py

# As root, with Debian's slurmctld, slurmd and munge installed: start a cluster of one node, and run a sweep on it.
slurm: $(VENV)/.developing
	$(BIN)/python tests/faults/slurm.py

clean:
	rm -rf $(VENV) build dist

# uv installs the same packages as pip in a fifth of the time. pip installs uv itself, so nothing else is needed.
$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "cnnbench needs Python 3.11, 3.12 or 3.13; none is on the path" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed: pyproject.toml | $(BIN)/uv
	@echo "Installing cnnbench and its packages into $(VENV) …"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.developing: pyproject.toml | $(BIN)/uv
	@echo "Installing cnnbench with its test tools into $(VENV) …"
	$(INSTALL) --editable . --group test --group check
	@touch $@ $(VENV)/.installed

$(VENV)/.documenting: pyproject.toml | $(BIN)/uv
	$(INSTALL) --editable '.[docs]'
	@touch $@ $(VENV)/.installed
