# Needs Python 3.11 or later and make; everything else goes into .venv.

PYTHON ?= $(shell python3.11 -c 1 2>/dev/null && echo python3.11 || echo python3)
JOBS ?= 2
# Threads of each test process: the workers already share the cores.
THREADS ?= 1
# Where `make newest` keeps its Debian, some 4 GB.
NEWEST ?= $(HOME)/.cache/diptych/newest

BIN := .venv/bin
INSTALLED := .venv/.installed

# What `make cuda` runs with: whatever is there, nothing is installed. DEVICE=cpu rehearses it;
# WHEELS=DIR makes wheels importable; PARTS="tests steps" runs these alone; OUT=DIR keeps the results.
CUDA_PYTHON ?= python3
DEVICE ?= cuda

.PHONY: help check test examples notebooks fuzz faults cuda newest wheel lint format clean
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

check: $(INSTALLED) ## prove every twin the same; writes report.html and report.json
	$(BIN)/diptych check --out .

test: $(INSTALLED) ## run the test suite; JOBS=2 processes
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

examples: $(INSTALLED) ## run the lessons that have changed; ALL=1 runs every one, ONE_IN=4 a drawn quarter, too
	$(BIN)/python -m examples $(if $(ALL),--all) $(if $(ONE_IN),--one-in $(ONE_IN))

notebooks: $(INSTALLED) ## write every script of lessons as a notebook, and execute it
	$(BIN)/python -m tests.study.notebooks

fuzz: $(INSTALLED) ## the blocks on hundreds of drawn inputs
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(JOBS) -m hypothesis --hypothesis-profile fuzz --timeout 0

faults: $(INSTALLED) ## the kill matrix: every planted fault, found or not; and false alarms
	$(BIN)/python -m tests.faults.matrix --out results/kill_matrix.tsv
	$(BIN)/python -m tests.faults.clean --out results/clean_finds.tsv

cuda: ## what only a GPU can tell, in eight minutes, into results/cuda; DEVICE=cpu rehearses it
	$(CUDA_PYTHON) -m tests.cuda --device $(DEVICE) $(if $(OUT),--out $(OUT)) $(if $(WHEELS),--wheels $(WHEELS)) $(PARTS)

newest: ## the suite, every twin and every lesson on the newest versions, in a Debian of its own
	tests/newest.sh "$(NEWEST)"

wheel: $(INSTALLED) ## build the package that pip installs, into dist/
	rm -rf build dist diptych.egg-info
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build diptych.egg-info

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

format: $(INSTALLED) ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what these targets made, .venv included
	rm -rf .venv .diptych .hypothesis .pytest_cache .ruff_cache build dist diptych.egg-info
	rm -f report.html report.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so that an interrupted or failed installation is begun again.
$(INSTALLED): Makefile pyproject.toml constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'diptych needs Python 3.11 or later; name one: make PYTHON=python3.11' >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all,examples,dev]'
	touch $@
