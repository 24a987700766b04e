# Everything sets itself up: a virtual environment in .venv, from requirements.lock, on first use.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
TESTED := .venv/.ready-for-tests

.PHONY: help setup demo test test-all test-nightly lint format generate lock golden bench bench-identity system clean

help:
	@echo "make demo       play the whole story against the stand-in servers (KEEP=1 leaves it running, FULL=1 plays all platforms, CRM=salesforce or CRM=tryton another CRM)"
	@echo "make test       lint, types and tests"
	@echo "make test-all   the slower suites too (official documents, real mail server, Meltano, crashes)"
	@echo "make test-nightly  wrong copies of the batch engine, each of which the tests must notice (an hour)"
	@echo "make bench      the benchmarks (make bench-identity: those of who is who)"
	@echo "make generate   rewrite meltano.yml, .env.example and the tables in the pages"
	@echo "make golden     rewrite the golden files; read the difference"
	@echo "make lock       renew requirements.lock"
	@echo "make system     install Dovecot and smtp-sink where apt-get is to be had (e-mail in the demo and the tests)"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(STAMP)

$(TESTED): $(STAMP) requirements-test.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirements requirements-test.lock
	@touch $(TESTED)

demo: $(STAMP)
	@$(BIN)/onethread --log-level WARNING demo $(if $(KEEP),--keep) $(if $(FULL),--full) $(if $(CRM),--crm $(CRM))

lint: $(TESTED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .

test-nightly: $(TESTED)
	@$(BIN)/pytest -n 2 -m nightly

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

test: lint
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not nightly"

test-all: $(TESTED)
	@$(BIN)/pytest -n 2 --dist loadfile -m "slow and not nightly"

generate: $(STAMP)
	@$(BIN)/python -m console.generate

golden: $(TESTED)
	@UPDATE_GOLDEN=1 $(BIN)/pytest -q --update-golden tests/mappings tests/targets

bench: $(TESTED)
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

bench-identity: $(TESTED)
	@for name in identity identity_batch identity_suggest; do $(BIN)/python -m benchmarks.$$name || exit 1; done

lock:
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@for group in dev test; do \
		file=requirements$$([ $$group = dev ] || echo -$$group).lock; \
		$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
			--no-emit-index-url --group $$group --output-file $$file pyproject.toml || exit 1; \
	done

system:
	@sh sandbox/install-system.sh

clean:
	@rm -rf .venv .venvs .meltano .onethread .pytest_cache .mypy_cache .ruff_cache .hypothesis
