# Everything from a fresh clone: needs python3 (3.11 or newer) and make, and no service.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
# These targets are the one-process mode, whatever the shell around them points at.
EMBEDDED := DATABASE_URL= REDIS_URL=

.PHONY: run demo test lint clean

run: .venv/installed
	$(EMBEDDED) $(BIN)/python manage.py up --port $(PORT)

demo: .venv/installed
	$(EMBEDDED) SANDBOX=1 VAR_DIR=var/demo $(BIN)/python manage.py demo
	$(EMBEDDED) SANDBOX=1 VAR_DIR=var/demo $(BIN)/python manage.py up --port $(PORT)

test: .venv/installed-dev
	$(EMBEDDED) $(BIN)/python -m pytest -n 2 --dist loadgroup

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(EMBEDDED) $(BIN)/python manage.py makemigrations --check --dry-run

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
