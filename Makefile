# Every target makes its own tools: .venv is installed from requirements/dev.txt on first use.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help test test-all test-instance lint lock readme bench lab saturday saturday-weekly crash crash-all clean

# $$python: .venv's, with all that tests and tools need.
define tools
. infrastructure/environment.sh
python=$$(environment_python "$$PWD")
environment_add "$$PWD" "$$python" requirements/dev.txt
endef

help: ## show this list
	grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.* ## /\1\t/' | expand -t 16

test: ## lint, then every quick test (under five minutes on two cores)
	.ci/suite lint quick

test-all: ## the sweeps that take longer, and only those
	.ci/suite slow

test-instance: ## the user data in a systemd that really boots, where root and systemd-nspawn are there
	.ci/packages systemd-nspawn=systemd-container mmdebstrap
	.ci/suite instance

lint: ## ruff, mypy, shellcheck and shfmt
	.ci/suite lint

# dev is resolved first: it holds the other two, so their versions agree. Pins stay unless UPGRADE=--upgrade.
resolve = "$${python%/*}/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header pyproject.toml $(UPGRADE)

lock: ## resolve pyproject.toml into requirements/*.txt (UPGRADE=--upgrade for newer versions)
	$(tools)
	$(resolve) --group dev --output-file requirements/dev.txt >/dev/null
	$(resolve) --group example --constraint requirements/dev.txt --output-file requirements/example.txt >/dev/null
	$(resolve) --constraint requirements/dev.txt --output-file requirements/run.txt >/dev/null

readme: ## put the help into the README, and bootstrap.sh into the launch template
	. infrastructure/environment.sh
	python=$$(environment_python "$$PWD")
	"$$python" .ci/readme.py

bench: ## time each job beside the plain way to do it
	$(tools)
	"$$python" benchmarks/run.py

lab: ## an offline AWS to play with, until Ctrl-C
	$(tools)
	exec "$$python" -m tests.lab

saturday: ## a Saturday night in the lab: Step Functions, three instances, midnight; under two minutes
	$(tools)
	exec "$$python" -m tests.saturday

saturday-weekly: ## the same for examples/weekly, whose eight launchers are stubs
	$(tools)
	exec "$$python" -m tests.saturday weekly

crash: ## one case of the crash sweep, by its number: make crash CASE=137
	$(tools)
	exec "$$python" -m tests.crash case $(or $(CASE),$(error say which, as in make crash CASE=137))

crash-all: ## every case of the crash sweep, on both cores; goes on where it was stopped
	$(tools)
	exec "$$python" -m tests.crash all

clean: ## remove .venv and the tools' caches, never artifacts
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .hypothesis
