# Every target makes its own tools: .venv is installed from requirements/dev.txt on first use.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help test test-all lint lock readme bench clean

help: ## show this list
	grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.* ## /\1\t/' | expand -t 12

test: ## lint, then every quick test (under five minutes on two cores)
	.ci/suite lint quick

test-all: ## the sweeps that take longer, and only those
	.ci/suite slow

lint: ## ruff, mypy, shellcheck and shfmt
	.ci/suite lint

# dev is resolved first: it holds the other two, so their versions agree. Pins stay unless UPGRADE=--upgrade.
resolve = "$${python%/*}/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header pyproject.toml $(UPGRADE)

lock: ## resolve pyproject.toml into requirements/*.txt (UPGRADE=--upgrade for newer versions)
	. infrastructure/environment.sh
	python=$$(environment_python "$$PWD")
	environment_add "$$PWD" "$$python" requirements/dev.txt
	$(resolve) --group dev --output-file requirements/dev.txt >/dev/null
	$(resolve) --group example --constraint requirements/dev.txt --output-file requirements/example.txt >/dev/null
	$(resolve) --constraint requirements/dev.txt --output-file requirements/run.txt >/dev/null

readme: ## put the help into the README, and bootstrap.sh into the launch template
	. infrastructure/environment.sh
	python=$$(environment_python "$$PWD")
	"$$python" .ci/readme.py

bench: ## time each job beside the plain way to do it
	. infrastructure/environment.sh
	python=$$(environment_python "$$PWD")
	"$$python" benchmarks/run.py

clean: ## remove .venv and the tools' caches, never artifacts
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .hypothesis
