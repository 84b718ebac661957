# Every target makes .venv and installs what it needs when missing, so a fresh clone can start with any of them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ORACLE := .venv-d4rl
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --durations=20

.PHONY: demo test test-all lint smoke report oracles bench bench-ci parity clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed                # the README's first command: a small comparison with tables, plots, a page
	$(BIN)/python run_bench.py run demo

report: $(VENV)/installed              # redraw it from results/ alone
	$(BIN)/python run_bench.py report results/demo

smoke: $(VENV)/installed               # does everything run end to end? under 90 s
	$(BIN)/python run_bench.py run smoke

test: $(VENV)/installed-dev            # 19 minutes were seen on two slow cores, beside other work
	$(PYTEST) -m "not slow and not oracle"

test-all: $(VENV)/installed-dev         # the slow ones, too, and those on Ray
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray,policies,browser]"
	$(PYTEST) -m "not oracle"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

oracles: $(VENV)/installed-dev $(ORACLE)/installed   # compare with d4rl, in an environment of its own, and with rliable
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[oracles]"
	ROLLOUTBENCH_ORACLES=$(abspath $(ORACLE)/bin/python) $(BIN)/python -m pytest tests/oracles

# PEERS=folder with checkouts of CORL, OfflineRL-Kit, unifloral, DyDiff; JAX=an interpreter with jax, flax, optax, distrax
bench: $(VENV)/installed-dev           # speed beside the usual tools, as ratios of one run; minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[oracles]"
	$(BIN)/python -m benchmarks.speed $(if $(PEERS),--peers "$(PEERS)") $(if $(JAX),--jax "$(JAX)")

bench-ci: $(VENV)/installed-dev        # hot paths as ratios; then run_bench.py check smoke --speed .benchmarks/hot_paths.json
	mkdir -p .benchmarks
	$(BIN)/python -m pytest benchmarks/speed/test_hot_paths.py --benchmark-json .benchmarks/hot_paths.json

# PEERS=folder with checkouts (benchmarks/parity/plan.py); ONLY=td3bc,iql; MINUTES=90: it stops then, the next resumes;
# LOCKSTEP=1: only the first updates with equal weights, batches and draws, in minutes; SMOKE=1: does it run?
# CONTROLS=1: those that ask where a difference comes from, too.
parity: $(VENV)/installed-dev          # our methods beside the authors' own code, on the same file: 2.9 hours on two cores, by its record
	$(BIN)/python -m benchmarks.parity $(if $(PEERS),--peers "$(PEERS)") $(if $(ONLY),--only "$(ONLY)") \
	    $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SMOKE),--smoke) $(if $(LOCKSTEP),--lockstep) $(if $(CONTROLS),--controls)

clean:                                 # keeps results/ and the user's cache
	rm -rf $(VENV) $(ORACLE) *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

$(ORACLE)/installed: Makefile
	test -x $(ORACLE)/bin/python || $(PYTHON) -m venv $(ORACLE)
	$(ORACLE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    d4rl==1.1 gym==0.23.1 cloudpickle==3.1.2 gym_notices==0.1.0 numpy==2.4.6 h5py==3.16.0 tqdm==4.70.1
	touch $@
