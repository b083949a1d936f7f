# make help lists the targets. Everything runs in .venv, which `make setup` keeps in step with constraints.txt.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup paper redraw report release smoke test lint bench clean
VENV ?= .venv
export VENV
export PATH := $(abspath $(VENV))/bin:$(PATH)
export OMP_NUM_THREADS ?= 1
# Where it is set, each of hundreds of processes compiles this package again, and pytest every test.
unexport PYTHONDONTWRITEBYTECODE
STAMP := $(VENV)/.setup

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## virtual environment with the pinned versions (needs python3 >= 3.11 only)
$(STAMP): pyproject.toml constraints.txt
	envs/cpu/setup workflow,dev
	touch $@

paper: setup ## every table, figure and number of params.yaml's scale, and the PDF where LaTeX is installed
	snakemake all

redraw: setup ## the paper from the records in git, on a fresh clone too: figures, tables, numbers, claims; trains nothing
	snakemake all --allowed-rules all render assemble pdf publish

report: setup ## one page of HTML in build/report-<scale>: everything that was printed, and what each number rests on
	python -m ripstop report

release: setup ## one archive of this commit that draws the paper again without git, DVC or network, in build/
	python -m ripstop release

smoke: setup ## the whole graph in miniature, in minutes, below results in folders called smoke; leaves paper/ alone
	snakemake draft --config scale=smoke

test: setup ## the test suite
	pytest -n auto -q

lint: setup ## format, lint, types, import contracts, workflow lint
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	snakefmt --check Snakefile workflow
	snakemake --lint

bench: setup ## side by side with peers, in one process
	python -m benchmarks

clean: ## remove results of the smoke scale, build/ with its reports and archives, caches, Snakemake's state; other results stay
	rm -rf results/smoke results/metrics/smoke results/records/smoke .snakemake .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis build
