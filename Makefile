# Everything from a fresh clone: needs python3 (3.11 or newer) and make, and no service.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
# Of run-stack: the webs listen on PORT, PORT + 1 and so on.
WEBS ?= 2
WORKERS ?= 2
# Of bench: full takes hours and is what docs/benchmarks.md tells, small takes minutes.
SIZE ?= full
SECTIONS ?=
# These targets are the one-process mode, whatever the shell around them points at.
EMBEDDED := DATABASE_URL= REDIS_URL=

.PHONY: run demo run-stack env test test-stack bench lint audit clean

run: .venv/installed
	$(EMBEDDED) $(BIN)/python manage.py up --port $(PORT)

demo: .venv/installed
	$(EMBEDDED) SANDBOX=1 VAR_DIR=var/demo $(BIN)/python manage.py demo
	$(EMBEDDED) SANDBOX=1 VAR_DIR=var/demo $(BIN)/python manage.py up --port $(PORT)

# The processes of docker-compose.yml without Docker, on a PostgreSQL and a Redis that are there. Ctrl-C ends them all.
run-stack: .venv/installed
	@test -n "$$DATABASE_URL" -a -n "$$REDIS_URL" || { echo "Set DATABASE_URL (postgres://...) and REDIS_URL" \
		"(redis://...) in the environment: this runs perpdash on them. Without services: make run." >&2; exit 1; }
	$(BIN)/python manage.py migrate --noinput
	PATH="$(BIN):$$PATH" $(BIN)/honcho -e /dev/null start -p $(PORT) -c web=$(WEBS),worker=$(WORKERS)

# What docker compose needs: .env with three values to fill in, keys and passwords under var/secrets/.
env:
	@$(PYTHON) perpdash/make_env.py

test: .venv/installed-dev
	$(EMBEDDED) $(BIN)/python -m pytest -n 3 --dist loadgroup

# Breaks a Redis, a PostgreSQL and perpdash's own processes, all started for it, and looks whether they mend.
test-stack: .venv/installed-dev
	$(BIN)/python -m pytest -n 0 tests/stack

# What docs/benchmarks.md tells, measured here: SECTIONS="parse store" for some of it, SIZE=small for a first look. On
# PostgreSQL and Redis as well where BENCH_DATABASE_URL and BENCH_REDIS_URL name some that may be filled and emptied.
bench: .venv/bench/installed
	$(EMBEDDED) .venv/bench/bin/python -m bench $(SECTIONS) --size $(SIZE)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(EMBEDDED) $(BIN)/python manage.py makemigrations --check --dry-run

# Known holes in what perpdash runs on. Asks PyPI, so it is no part of lint.
audit: .venv/installed-dev
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "perpdash needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

.venv/installed-dev: requirements-dev.txt requirements.txt constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	touch $@ .venv/installed

# An environment of its own: what perpdash is measured beside wants other versions of some things beneath it.
.venv/bench/installed: requirements-bench.txt requirements.txt constraints.txt | .venv/bin/python
	$(PYTHON) -m venv .venv/bench
	.venv/bench/bin/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	.venv/bench/bin/pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	touch $@
