# `make demo` and `make test` build what they need in .venv, and are quick when run again.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo test check fmt smoke clean

help:
	@echo "make demo    rerank real documents, on this machine or with JINA_API_KEY set on the hosted API"
	@echo "make test    all tests, with coverage"
	@echo "make check   formatting, imports, types"
	@echo "make smoke   the tests marked smoke, on every Python found and on the lowest dependencies, against the wheel"
	@echo "make fmt     format the code"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[demo,langchain,aiohttp]' --group check
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/jina-rerank demo

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --cov --cov-report=term

check: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --config pyproject.toml
	$(BIN)/mypy
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes jina_rerank --ignoreexternal

smoke: $(INSTALLED)
	$(BIN)/python scripts/smoke.py

fmt: $(INSTALLED)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf .venv build dist .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
