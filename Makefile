# `make demo` and `make test` install what they need into .venv, and reuse it when run again.

# With this variable set, each of the hundreds of programs that the tests start would recompile everything it imports.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.demo
INSTALLED := .venv/.installed
BENCH := full
SOAK := 1m
ATHERIS := 1200
PEERS := .venv-bench/.installed
# More than there are cores: many tests wait, for a server that is slow on purpose or for a program to end.
WORKERS = $(shell $(BIN)/python -c 'import os; print(2 * os.cpu_count())')

ENGINES := .venv-engines/.installed
HF := .venv-hf/.installed
FUZZER := .venv-atheris/.installed

.PHONY: help demo quick test check fmt fuzz atheris smoke bench simulate soak soak-bulk engines hf clean

help:
	@echo "make demo    rerank real documents: on this machine, or with the hosted API if JINA_API_KEY is set"
	@echo "make quick   the tests that need no process, socket or model: under a minute"
	@echo "make test    all tests; COVERAGE=1 also requires that they cover 95 % of branches, and takes half as long again"
	@echo "make check   formatting, imports, types"
	@echo "make fuzz    fuzz the codec with 200,000 examples; takes a quarter of an hour"
	@echo "make smoke   the tests marked smoke, on every Python found and on the lowest dependencies, against the wheel"
	@echo "make bench   compare speed with other clients, into docs/benchmarks.md; BENCH=quick: a rough run, into build/"
	@echo "make simulate  run the rate limiter against simulated servers: a table, and docs/limits.svg"
	@echo "make fmt     format the code"
	@echo "make soak    threads and tasks against a faulty server for a minute, every call accounted for; SOAK=1h: longer"
	@echo "make soak-bulk  100,000 requests through rerank_many, with a plot of memory use"
	@echo "make atheris    fuzz the codec guided by coverage, on Linux; ATHERIS=1200: seconds"
	@echo "make engines    test the examples for Daft and Ray Data, in a separate environment"
	@echo "make hf      test cross-encoders as scorers, in a separate environment with PyTorch"

# In two steps, because the demo needs a third of what the tests and checks need, and none of their tools.
$(DEMO): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[demo]'
	@touch $@

$(INSTALLED): $(DEMO)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group check \
		--editable '.[demo,eval,langchain,aiohttp,parquet,redis]'
	@touch $@

demo: $(DEMO)
	@$(BIN)/jina-rerank demo

quick: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 -m quick

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(if $(COVERAGE),--cov --cov-report=term)

check: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --config pyproject.toml
	$(BIN)/mypy
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes jina_rerank --ignoreexternal

fuzz: $(INSTALLED)
	FUZZ_EXAMPLES=25000 $(BIN)/python -m pytest --numprocesses auto tests/test_fuzz.py

smoke: $(INSTALLED)
	$(BIN)/python scripts/smoke.py

atheris: $(FUZZER)
	.venv-atheris/bin/python -m scripts.atheris_codec -max_total_time=$(ATHERIS)

$(FUZZER): pyproject.toml $(INSTALLED)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-atheris
	$(BIN)/uv pip install --quiet --python .venv-atheris/bin/python --editable . --group atheris
	@touch $@

PLOTTED := "8 at once, 600 calls" "5% at random, 600 calls" "10 s of 429" "50, 2, 50"

simulate: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group plot
	$(BIN)/python -m tests.simulation
	$(BIN)/python -m tests.simulation --seeds 1 --plot docs/limits.svg $(PLOTTED)

soak: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group plot
	$(BIN)/python -W error -m tests.soak $(SOAK)

soak-bulk: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group plot
	BULK_SOAK=100000 BULK_SOAK_PLOT=docs/bulk-memory.svg \
		$(BIN)/python -m pytest --timeout 0 -k thousands tests/test_bulk_sync.py

engines: $(ENGINES)
	.venv-engines/bin/python -m pytest -k engine tests/test_docs.py

$(ENGINES): pyproject.toml $(INSTALLED)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-engines
	$(BIN)/uv pip install --quiet --python .venv-engines/bin/python --editable '.[local]' --group engines
	@touch $@

hf: $(HF)
	.venv-hf/bin/python -m pytest tests/test_cross_encoder.py

$(HF): pyproject.toml $(INSTALLED)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-hf
	$(BIN)/uv pip install --quiet --python .venv-hf/bin/python --editable '.[cli,local,hf]' --group smoke
	@touch $@

$(PEERS): benchmarks/requirements.txt $(INSTALLED)
	test -x .venv-bench/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-bench
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --requirements benchmarks/requirements.txt
	@touch $@

bench: $(PEERS)
	.venv-bench/bin/python -m benchmarks $(BENCH)

fmt: $(INSTALLED)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf .venv .venv-atheris .venv-bench .venv-engines .venv-hf build dist .coverage* .mypy_cache .pytest_cache .ruff_cache
	rm -rf .import_linter_cache
