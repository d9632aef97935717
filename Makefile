# Everything a new user needs: `make bookinfo` shows it, `make test` proves it. Both set up `.venv` themselves.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: bookinfo test check format bench fuzz golden clean

bookinfo: .venv/ready  ## The Bookinfo example in a mesh on this machine, until Ctrl-C.
	$(BIN)/waypoint mesh up examples/bookinfo/platform examples/bookinfo/gateway.yaml examples/bookinfo/routes.yaml \
		--programs examples/bookinfo/programs.yaml --ingress productpage

test: check  ## Checks and tests; under ten minutes on two cores.
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/ready  ## Format, lint, types, and the direction of imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready  ## Side by side with Envoy; needs wrk.
	$(BIN)/python -m bench

fuzz: .venv/ready  ## Both HTTP/2 engines against each other, for longer than the tests do.
	FUZZ_SECONDS=$${FUZZ_SECONDS:-120} $(BIN)/python -m pytest tests/fuzz --timeout 900

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis
