# Everything a new user needs: `make bookinfo` shows it, `make test` proves it. Both set up `.venv` themselves.
# What is installed is `requirements.lock`, by hash. PYTHON=… chooses another Python than the oldest one found.
PYTHON ?= $(shell for it in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$it -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$it; break; }; done)
BIN := .venv/bin
HELM ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pywaypoint/cluster/bin/helm
# Four, because the tests wait as long as they compute. In their own order, because the slow files come early in it.
WORKERS := -n 4 --dist loadfile --no-loadscope-reorder
PIP := -m pip --quiet --disable-pip-version-check

# Each worker imports all tests, and they start the programs hundreds of times: Python keeps what it has compiled.
unexport PYTHONDONTWRITEBYTECODE

ISTIO_SECONDS ?= 1800

SOURCES := hatch_build.py pyproject.toml pywaypoint.py $(shell find twin policies l4 waypoint -name '*.py' -o -path '*/assets/*' -type f)

.PHONY: bookinfo boards docs kustomize observability-test browser-test chromium nft test test-twin test-pythons test-newest image-test check format lock proto cluster cluster-test cluster-smoke istio-test cluster-down bench wheels loadtest hostile swaps churn discovery
.PHONY: soak fuzz mutants clean python

bookinfo: .venv/ready  ## The Bookinfo example in a mesh on this machine, until Ctrl-C.
	$(BIN)/waypoint mesh up examples/bookinfo/platform examples/bookinfo/gateway.yaml examples/bookinfo/routes.yaml \
		--programs examples/bookinfo/programs.yaml --ingress productpage

test: check nft  ## Checks and tests; under ten minutes on two cores.
	$(BIN)/python -m pytest $(WORKERS)

nft:
	@test "$$(id -u)" != 0 || command -v nft >/dev/null || { command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -qq --no-install-recommends nftables; } || { \
		echo "nft is not here, which redirects pods in tests that root runs. Install Debian's package nftables" \
		"(apt install nftables)." >&2; exit 1; }

check: .venv/ready  ## Format, lint, types, and the direction of imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy hatch_build.py pywaypoint.py twin bench
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/ready  ## The pages that are written from the code.
	$(BIN)/python .ci/reference.py

boards: .venv/ready  ## Grafana's boards, from deploy/grafana/boards.yaml.
	$(BIN)/python .ci/boards.py

kustomize:  ## The chart as Helm renders it, for those who don't use Helm. HELM=… chooses another one than the cluster's.
	$(HELM) template pywaypoint deploy/chart --namespace pywaypoint-system \
		| grep -v -e 'helm.sh/chart:' -e 'managed-by: Helm' > deploy/kustomize/mesh.yaml

proto: .venv/ready  ## What is generated from .proto files, which the repository holds.
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. l4/_proto/*.proto waypoint/_proto/*.proto

bench: .venv/ready  ## Side by side with Envoy; needs wrk and h2load. Measures the compiled twin where there is a C compiler. BENCH=… are options.
	@if command -v cc >/dev/null; then $(MAKE) build/twin; else echo "no C compiler: the plain version is measured"; fi
	$(BIN)/python -m bench $(BENCH)

loadtest: .venv/ready  ## Bookinfo without a mesh, ambient and with sidecars: latency, CPU, memory. LOADTEST="--seconds 60 --rate 80" chooses.
	@if command -v cc >/dev/null; then $(MAKE) build/twin; else echo "no C compiler: the plain version is measured"; fi
	$(BIN)/python -m bench.loadtest $(LOADTEST)

test-twin: build/twin nft  ## The same tests over the compiled twin, which the image ships; with the build under ten minutes.
	rm -rf build/twin/pywaypoint/tests
	cp -R $(filter-out build policies l4 waypoint,$(wildcard *)) .ci build/twin/pywaypoint/
	cd build/twin/pywaypoint && EXPECT_TWIN=1 $(CURDIR)/$(BIN)/python -m pytest $(WORKERS)

build/twin: .venv/ready $(SOURCES)
	rm -rf $@
	PYWAYPOINT_TWIN=1 $(BIN)/python $(PIP) install --no-deps --no-build-isolation --target $@ .

test-pythons: python  ## The same tests on each Python from 3.11 on that is found here. PYTHONS="3.12 3.13" chooses.
	$(PYTHON) .ci/pythons.py $(PYTHONS)

wheels: python  ## The wheel with the compiled twin for each Python from 3.11 on that is found here, each tried in a clean venv.
	$(PYTHON) .ci/wheels.py $(PYTHONS)

test-newest:  ## The same tests with the newest of every dependency, whatever is locked. Not in CI: it fails by itself.
	rm -rf build/newest
	@$(MAKE) --no-print-directory python
	$(PYTHON) -m venv build/newest
	build/newest/bin/python $(PIP) install --upgrade pip
	build/newest/bin/python $(PIP) install --upgrade --editable '.[dev]'
	build/newest/bin/python -m pytest $(WORKERS)

image-test: .venv/ready  ## Build the image on Debian's own Python and run both programs from it. As root; minutes.
	$(BIN)/python -m pytest -m image tests/image

cluster: .venv/ready  ## A real Kubernetes of two nodes on this machine, with this checkout's images. As root, with Go; stays up.
	$(BIN)/python -m tests.cluster up
	$(BIN)/python -m tests.cluster image
	$(BIN)/python -m tests.cluster install

cluster-test: cluster  ## The tests that need that cluster, and its end.
	$(BIN)/python -m tests.cluster istio
	$(BIN)/python -m pytest -m cluster tests/cluster; status=$$?; $(BIN)/python -m tests.cluster down; exit $$status

cluster-smoke: cluster  ## The shortest of them: Bookinfo in the mesh, and the Gateway API's conformance suite. ALSO=… adds tests.
	$(BIN)/python -m pytest -m cluster tests/cluster/test_bookinfo.py tests/cluster/test_conformance.py $(ALSO); status=$$?; \
		$(BIN)/python -m tests.cluster down; exit $$status

istio-test: cluster  ## The tests with the real istiod and istioctl, in that cluster, and its end. Minutes more, to build these.
	$(BIN)/python -m tests.cluster istio
	timeout $(ISTIO_SECONDS) $(BIN)/python -m pytest -m istio tests; status=$$?; \
		$(BIN)/python -m tests.cluster down; exit $$status

cluster-down: .venv/ready  ## End the cluster.
	$(BIN)/python -m tests.cluster down

observability-test: .venv/ready  ## A real Prometheus and a real Jaeger beside the laptop mesh. The first time, two minutes more to build Jaeger.
	$(BIN)/python -m tests.observability
	$(BIN)/python -m pytest -m observability tests/observability

browser-test: .venv/ready chromium  ## The console in a real browser, over the laptop mesh; two minutes.
	mkdir -p build && sed '/^# section: fuzz/,$$d' requirements.lock > build/browser.lock
	$(BIN)/python $(PIP) install --require-hashes --requirement build/browser.lock
	$(BIN)/python -m pytest -m browser tests/browser

chromium:
	@command -v $${CHROMIUM:-chromium} >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -qq --no-install-recommends chromium fonts-dejavu-core; } || { \
		echo "Chromium is not here. Install Debian's package chromium (apt install chromium)," \
		"or name another one: make browser-test CHROMIUM=/path/to/chrome" >&2; exit 1; }

lock: python  ## Renew `requirements.lock`: the newest of everything that pyproject.toml allows.
	$(PYTHON) -m venv build/lock
	build/lock/bin/python $(PIP) install --upgrade uv
	build/lock/bin/python .ci/lock.py

hostile: .venv/ready  ## What an innocent client gets beside 200 hostile ones, for a minute.
	$(BIN)/python -m bench.hostile

swaps: .venv/ready  ## What a large configuration costs, and what a client feels of its swaps; a minute.
	$(BIN)/python -m bench.configuration

churn: .venv/ready  ## What endpoints that come and go cost a large configuration; two and a half minutes.
	$(BIN)/python -m bench.churn

discovery: .venv/ready  ## What discovery costs the controller, and how long a change takes to reach 20 ztunnels; a minute and a half.
	$(BIN)/python -m bench.discovery

soak: .venv/ready  ## What takes longer: memory, stops of the event loop, rotations of certificates, and rollouts and deaths of replicas under load (SOAK_RATE, SOAK_SECONDS).
	$(BIN)/python -m pytest -m soak

fuzz: .venv/ready  ## The codecs, and both HTTP/2 engines against each other, for longer than the tests do.
	$(BIN)/python $(PIP) install --require-hashes --requirement requirements.lock
	FUZZ_SECONDS=$${FUZZ_SECONDS:-120} $(BIN)/python -m pytest tests/fuzz --timeout 900
	FUZZ_SECONDS=$${FUZZ_SECONDS:-120} $(BIN)/python -m tests.fuzz.targets

mutants: .venv/ready  ## Take the guards away, one at a time: each must be missed by a test.
	$(BIN)/python -m tests.mutants

.venv/ready: pyproject.toml requirements.lock
	@$(MAKE) --no-print-directory python
	$(PYTHON) -m venv .venv
	sed '/^# section: browser/,$$d' requirements.lock > .venv/requirements.lock
	$(BIN)/python $(PIP) install --require-hashes --requirement .venv/requirements.lock
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

python:
	@test -n "$(PYTHON)" || { echo "No Python from 3.11 on is here. Install one (https://www.python.org/downloads/)," \
		"or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) does not run, or is older than 3.11. Name another: make PYTHON=/path/to/python3" >&2; exit 1; }

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .import_linter_cache .hypothesis
