# The two commands: `make demo` and `make test`. Each works alone in a fresh clone with Python 3.11.
# Others: `make test-slurm` (on a private Slurm, where slurmctld is installed), `make setup` (the environment only),
# `make pbmc3k` (real data, fetched and analysed), `make generate` (files made from the config model), `make lint`,
# `make lock` (resolve the lock anew), `make clean`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3.11
CORES ?= 2
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-slurm lint format generate lock clean pbmc3k sc_mixology pbmc_3chemistries

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" bash tools/setup.sh "$(VENV)"
	@touch $@

demo: setup
	@$(BIN)/python -m latentomics.simulate data/demo
	@# So small a study trains faster side by side than with all cores for one network.
	@$(BIN)/snakemake --cores $(CORES) --configfile config/demo.yaml --quiet host reason \
	  --set-threads embed=1 embed_gpu=1 scores=1
	@echo "The report: $(CURDIR)/results/report.html"

test: setup lint
	@$(BIN)/python -m pytest

# One process: there is one private cluster. Some twenty minutes, therefore apart from `make test`.
test-slurm: setup
	@$(BIN)/python -m pytest -n 0 tests/slurm

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check workflow
	@$(BIN)/python -m latentomics.simulate data/demo
	@$(BIN)/snakemake --lint --configfile config/demo.yaml

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt workflow

# Real public data by name (resources/datasets.yaml): fetch into data/NAME, then run there.
pbmc3k sc_mixology pbmc_3chemistries: setup
	@$(BIN)/python -m latentomics.io.datasets $@ --to data/$@
	@$(BIN)/snakemake --cores $(CORES) --directory data/$@
	@echo "The report: $(CURDIR)/data/$@/results/report.html"

generate: setup
	@$(BIN)/python -m latentomics.config.generate

lock:
	@PYTHON="$(PYTHON)" bash tools/lock.sh

clean:
	rm -rf results .snakemake data/demo
