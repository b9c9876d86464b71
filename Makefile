.DEFAULT_GOAL := help
.PHONY: help demo test test-long check protos protos-check bench bench-retrieval crash load clean
PYTHON ?= python3
BIN := .venv/bin
PINS := -c constraints.txt

.venv/.base: pyproject.toml constraints.txt
	@echo "installing into .venv (once; a minute or two)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade $(PINS) pip
	@$(BIN)/python -m pip install --quiet $(PINS) --editable ".[server,native,builder,train]"
	@touch $@
.venv/.dev: .venv/.base
	@echo "installing the development tools into .venv (once)"
	@$(BIN)/python -m pip install --quiet $(PINS) --group dev
	@touch $@
.venv-protoc/.done: protos/requirements.txt
	@$(PYTHON) -m venv .venv-protoc
	@.venv-protoc/bin/python -m pip install --quiet --disable-pip-version-check -r protos/requirements.txt
	@touch $@

help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: .venv/.base ## train on a real shop, build a release, serve it, ask it, push live
	@$(BIN)/python examples/online_retail/demo.py

test: .venv/.dev ## run every test (under 10 minutes)
	$(BIN)/python -m pytest -q -m "not long"

test-long: .venv/.dev ## run what takes longer (under 30 minutes)
	$(BIN)/python -m pytest -q -m long

check: .venv/.dev protos-check ## format, lint, types, import contracts, wire contract, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	cd protos && ../$(BIN)/buf breaking --against baseline.binpb
	$(BIN)/python -m pytest -q tests/test_docs.py

protos: .venv-protoc/.done ## regenerate the committed stubs
	cd protos && ../.venv-protoc/bin/python -m grpc_tools.protoc -I . --python_out=../clients/python \
	  --pyi_out=../clients/python --grpc_python_out=../clients/python tidings/v1/*.proto
	@cd protos && grep -L '^service ' tidings/v1/*.proto | sed 's|^\(.*\)\.proto|../clients/python/\1_pb2_grpc.py|' | xargs rm -f

protos-check: protos ## fail if the stubs are stale
	@test -z "$$(git status --porcelain clients/python/tidings/v1)" \
	  || { git status --short clients/python/tidings/v1; echo "the stubs are stale: commit what 'make protos' made"; exit 1; }

bench: .venv/.dev ## measure everything into docs/benchmarks.md (two hours; PART=serving: one part; ARGS=--quick: printed)
	$(BIN)/python loadtest/benchmarks.py $(or $(ARGS),--write) $(if $(PART),--part $(PART))

bench-retrieval: .venv/.dev ## of these recall and speed of search (20 minutes)
	$(BIN)/python loadtest/benchmarks.py $(or $(ARGS),--write) --part retrieval filters delta

crash: .venv/.dev ## kill the server 100 times and compare with what it promised (half an hour)
	$(BIN)/python loadtest/crash.py --rounds 100

load: .venv/.dev ## load a server with Locust, by default one started for it, into load.html (LOAD_ARGS="--scenario shop-day --seconds 60")
	$(BIN)/python loadtest/load.py $(LOAD_ARGS)

clean: ## remove what was built here, the environments too
	rm -rf .venv .venv-protoc .demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
