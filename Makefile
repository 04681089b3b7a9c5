# Every target sets itself up: it needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# The tests start the agent a thousand times: Python may keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-node test-mcp crash check format lint types fuzz fuzz-wire simulate bench-engine lock clean setup

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FleetPrompt needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Index this repository, run a workflow on it, kill the agent, resume, show the report
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## Run the tests, as many at once as there are cores
	$(BIN)/python -m pytest -n auto

check: $(STAMP) lint types test ## Format check, lint, types, tests

lint: $(STAMP) ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## Check types
	$(BIN)/mypy

test-node: $(STAMP) tests/e2e/node/node_modules/.installed ## Host the agent from Node's vscode-jsonrpc, and the schema in a real editor server (needs npm)
	PATH="$(CURDIR)/tests/e2e/node/node_modules/.bin:$$PATH" $(BIN)/python -m pytest -n auto tests/e2e/test_foreign_client.py tests/agent/language/test_editor.py tests/e2e/test_init.py

test-mcp: $(STAMP) tests/mcp/foreign/node/node_modules/.installed ## Serve MCP clients that others have written, and the official conformance suite (needs npm)
	$(BIN)/python -m pytest -n auto tests/mcp

%/node_modules/.installed: %/package.json
	@if command -v npm > /dev/null; then \
		npm ci --prefix $* --no-audit --no-fund --loglevel=error && touch $@; \
	else \
		echo "npm is not there: the tests that need Node are skipped."; \
	fi

crash: $(STAMP) ## Kill a real agent before and after every write of its journal (minutes)
	CRASH=all $(BIN)/python -m pytest -n auto tests/crash

fuzz-wire: $(STAMP) ## Send FUZZ_REQUESTS (20,000) odd requests in each dialect to real agents
	FUZZ_REQUESTS=$(or $(FUZZ_REQUESTS),20000) $(BIN)/python -m pytest -n auto --timeout 3000 tests/e2e/test_hostile_host.py

fuzz: $(STAMP) ## Compare 20,000 generated expressions with Google's CEL
	$(BIN)/python tests/agent/language/fuzz_cel.py --seed 1 --cases 20000

simulate: $(STAMP) ## Run the engine's core RUNS times (20,000) with failures, cancels and crashes
	$(BIN)/python -m benchmarks.engine.simulate --runs $(or $(RUNS),20000)

bench-engine: $(STAMP) ## Print the engine's costs as ratios to floors and to other engines (needs npm for one)
	$(BIN)/python -m benchmarks.engine.peers
	$(BIN)/python -m benchmarks.engine --peers

format: $(STAMP) ## Rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Pin the development dependencies again (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 --group dev pyproject.toml -o requirements-dev.lock

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
