# The two commands of the README are `make demo` and `make test`. They need Python 3.11 to 3.13 and make; everything else
# is put into .venv, from the lock file.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that runs, is of a supported version and can make virtual environments.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
# The system's certificates where it has some, as pip does: behind a company's proxy uv's own do not suffice.
CERTIFICATES := $(or $(SSL_CERT_FILE),$(wildcard /etc/ssl/certs/ca-certificates.crt))
# uv is told where its environment is, so that one that happens to be active elsewhere is left alone.
UV := UV_PROJECT_ENVIRONMENT=$(VENV) UV_PYTHON_DOWNLOADS=never $(if $(CERTIFICATES),SSL_CERT_FILE=$(CERTIFICATES)) $(BIN)/uv
UV_VERSION := uv>=0.8,<1
LOCKED := pyproject.toml uv.lock
# Slow tests stand side by side: a worker that runs out of work takes some of another's.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
# Nothing is removed that another target put there: `make demo` after `make test` is instant.
SYNC := sync --frozen --inexact --quiet

.PHONY: help demo demo-service test test-rest test-all test-vllm test-litellm bench lint format format-check types wheel docs docs-tables clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/.uv:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 with the venv module was found (Debian: apt install python3-venv); name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(UV_VERSION)'
	@touch $@

$(VENV)/.demo: $(VENV)/.uv $(LOCKED)
	@echo "installing what the demo needs" >&2
	@$(UV) $(SYNC) --no-dev --extra sandbox --extra documents --extra nemo --extra langchain
	@touch $@

$(VENV)/.dev: $(VENV)/.uv $(LOCKED)
	@echo "installing what the tests need" >&2
	@$(UV) $(SYNC) --all-groups --extra all --extra nemo-server --extra ray
	@touch $@ $(VENV)/.demo $(VENV)/.demo-service

demo: $(VENV)/.demo ## real steps of an agent's turn, judged on this machine without GPU and network
	@$(BIN)/turnguard demo

$(VENV)/.demo-service: $(VENV)/.uv $(LOCKED)
	@echo "installing what the service needs" >&2
	@$(UV) $(SYNC) --no-dev --extra sandbox --extra service --extra records
	@touch $@

demo-service: $(VENV)/.demo-service ## the service and its console on a sandbox, with sample traffic
	@$(BIN)/python -m scripts.demo_service

test: $(VENV)/.dev ## the tests, with a selection of each cross product
	@$(PYTEST) -m "not vllm and not exhaustive" $(PYTEST_ARGS)

test-rest: $(VENV)/.dev
	@$(PYTEST) -m "not vllm and exhaustive" $(PYTEST_ARGS)

test-all: $(VENV)/.dev ## every test but those of a real vLLM
	@$(PYTEST) -m "not vllm" $(PYTEST_ARGS)

test-vllm: $(VENV)/.dev ## the tests against a real vLLM, where this machine can run one
	@scripts/test_vllm.sh $(BIN)/python

test-litellm: $(VENV)/.dev ## the service behind a real LiteLLM proxy, in an environment of its own
	@test -x .venv-litellm/bin/litellm || { $(PYTHON) -m venv .venv-litellm && .venv-litellm/bin/pip install --quiet 'litellm[proxy]>=1.100'; }
	@TURNGUARD_LITELLM=$(CURDIR)/.venv-litellm $(BIN)/python -m pytest -q tests/service/test_litellm.py

bench: $(VENV)/.dev ## the figures of the README
	@$(BIN)/python -m benchmarks

lint: $(VENV)/.dev ## ruff, and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.dev ## write every file in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only --quiet .

format-check: $(VENV)/.dev
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev ## strict types, over the tests too
	@$(BIN)/mypy

wheel: $(VENV)/.dev ## dist/: the source distribution, and the wheel that is built from it
	@rm -rf dist
	@$(UV) build --quiet --out-dir dist
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist/*.whl

docs-tables: $(VENV)/.dev ## write the generated pages of docs/
	@$(BIN)/python -m scripts.docs_tables

docs: $(VENV)/.dev ## the documentation, as a site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean: ## remove everything that was made, the environments too
	rm -rf $(VENV) .venv-* dist build site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
