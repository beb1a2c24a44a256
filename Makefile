# What one does with this repository. `make` lists the targets; each says what it does in its own line.
# A target fails when one of its steps fails. Tools that are not part of the tree go to the cache
# folder: $YELLOWJACK_CACHE, else $XDG_CACHE_HOME/yellowjack, else ~/.cache/yellowjack.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
STEP := .ci/step

.PHONY: help
help: ## List the targets
	@printf 'usage: make TARGET\n\n'
	@sed -n 's/^\([a-z][a-z0-9-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target what; do printf '  %-14s %s\n' "$$target" "$$what"; done

.PHONY: build
build: ## Build the yellowjack binary (debug)
	$(CARGO) build --locked

# Lints and tests share one build: clippy-driver compiles the packages of the workspace in place of rustc, and a lint
# is an error. `cargo clippy` alone would compile every dependency a second time.
CHECKED = env RUSTC_WORKSPACE_WRAPPER="$$(rustc --print sysroot)/bin/clippy-driver" CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__

# The tests against the API server that `make test` runs: what the operator does first and most. The rest is all others
# but `parity`, which is a step of its own.
PASS_TARGETS := harness admit guardrails operator upgrade
PASS_FILTERS := isolate:: release::
E2E_TARGETS := $(filter-out parity,$(sort $(patsubst e2e/tests/%.rs,%,$(wildcard e2e/tests/*.rs)) $(patsubst e2e/tests/%/main.rs,%,$(wildcard e2e/tests/*/main.rs))))

.PHONY: test
test: ## Check what a change needs: format, lints, unit tests, one pass against a real API server
	@$(STEP) 'format' $(MAKE) --no-print-directory fmt-check
	@$(STEP) 'build and lints' $(MAKE) --no-print-directory checked-build
	@$(STEP) 'unit and integration tests' $(CHECKED) $(MAKE) --no-print-directory unit
	@$(STEP) 'control plane' $(MAKE) --no-print-directory cluster
	@$(STEP) 'a pass against the API server' $(CHECKED) $(MAKE) --no-print-directory e2e-pass

# What `make test` leaves out, in the order in which .ci/run takes it as far as its time goes.
.PHONY: test-rest
test-rest: ## Check the rest: all other tests against an API server, dependencies, policy stand-in, the installation, a real node, real engines
	@$(STEP) 'rest against the API server' $(CHECKED) $(MAKE) --no-print-directory e2e-rest
	@$(STEP) 'cases in engine, replay, operator' $(CHECKED) $(MAKE) --no-print-directory parity
	@$(STEP) 'dependencies' $(MAKE) --no-print-directory deny
	@$(STEP) 'advisories' $(MAKE) --no-print-directory advisories
	@$(STEP) 'policy stand-in' $(MAKE) --no-print-directory e2e-standin
	@$(STEP) 'installation' $(MAKE) --no-print-directory e2e-install
	@$(STEP) 'real node' env YELLOWJACK_NETPOL_SUITE=0 $(MAKE) --no-print-directory e2e-node
	@$(STEP) 'real Cilium' $(MAKE) --no-print-directory e2e-cilium
	@$(STEP) 'real kube-router' $(MAKE) --no-print-directory e2e-kube-router

.PHONY: checked-build
checked-build: ## Build all packages and targets with clippy's lints as errors
	$(CHECKED) $(CARGO) test --locked --workspace --all-targets --no-run

.PHONY: test-all
test-all: test test-rest ## Check and test everything

.PHONY: lint
lint: ## Run clippy over all packages and targets; a warning is an error
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: fmt
fmt: ## Format the Rust code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## Check the format of the Rust code
	$(CARGO) fmt --all --check

.PHONY: deny
deny: ## Check licences, bans and sources of the dependencies (deny.toml); needs no network
	"$$(.ci/tools cargo-deny)" --log-level error check licenses bans sources

.PHONY: advisories
advisories: ## Check the dependencies against the advisory database; passes and prints NOT CHECKED where it cannot be fetched
	.ci/advisories

.PHONY: unit
unit: ## Run the unit and integration tests of the operator, and each fuzz target for a second; no cluster
	$(CARGO) test --locked --no-fail-fast -p yellowjack -p yellowjack-fuzz

.PHONY: mutants
mutants: ## Make small changes to FILE, one at a time, and list those that no unit test notices
	CARGO_TARGET_DIR="$$PWD/target/mutants-build" "$$(.ci/tools cargo-mutants)" mutants --package yellowjack --file '$(FILE)' --output target -- --lib

.PHONY: fuzz
fuzz: ## Fuzz each decoder for FUZZ_SECONDS (60); a failing input stays in fuzz/failures
	$(CARGO) run --locked --profile fuzz -p yellowjack-fuzz --bin fuzz

.PHONY: e2e-api
e2e-api: build cluster ## Run the tests against a real API server (package yellowjack-e2e), but for those of parity
	$(CARGO) test --locked --no-fail-fast -p yellowjack-e2e --lib --bins $(E2E_TARGETS:%=--test %)

.PHONY: e2e-pass
e2e-pass: build cluster ## Run the part of these tests that `make test` has
	$(CARGO) test --locked --no-fail-fast -p yellowjack-e2e --lib $(PASS_TARGETS:%=--test %)
	$(CARGO) test --locked -p yellowjack-e2e --test response -- $(PASS_FILTERS)

.PHONY: e2e-rest
e2e-rest: build cluster ## Run these tests without the part that `make test` has
	$(CARGO) test --locked --no-fail-fast -p yellowjack-e2e $(patsubst %,--test %,$(filter-out response $(PASS_TARGETS),$(E2E_TARGETS)))
	$(CARGO) test --locked -p yellowjack-e2e --test response -- $(PASS_FILTERS:%=--skip %)

.PHONY: parity
parity: build cluster ## Play every case to the engine, to replay and to the operator on an API server, and compare (3 minutes)
	$(CARGO) test --locked -p yellowjack-e2e --test parity -- --nocapture

.PHONY: attacks
attacks: build cluster ## Try every known attack with its control, and list what stops each (10 minutes)
	$(CARGO) run --locked --quiet -p yellowjack-e2e --bin attacks

.PHONY: e2e-node
e2e-node: build cluster ## Run the tests on a real node in namespaces of its own (Linux, root; says why where it cannot)
	CARGO='$(CARGO)' e2e/node/test.sh

.PHONY: e2e-cilium
e2e-cilium: build cluster ## Run the scenarios of that node on a real Cilium with its default settings (10 minutes and its build)
	CARGO='$(CARGO)' e2e/engines/test.sh cilium

.PHONY: e2e-kube-router
e2e-kube-router: build cluster ## Run the scenarios of that node on a real kube-router (10 minutes and its build)
	CARGO='$(CARGO)' e2e/engines/test.sh kube-router

.PHONY: e2e-install
e2e-install: cluster ## Install, upgrade and uninstall the image with Helm on such a node; IMAGE_PROFILE=release for the one that ships
	$(CARGO) test --locked --no-run -p yellowjack-e2e --bin with-node --test install
	@with_node="$${CARGO_TARGET_DIR:-target}/debug/with-node"; image="$$PWD/target/image/test.tar"; \
	"$$with_node" --check || { status=$$?; [ "$$status" != 3 ] || exit 0; exit "$$status"; }; \
	for part in charts/build-helm.sh e2e/node/build.sh 'e2e/standin/build.sh standin'; do $$part >/dev/null; done; \
	IMAGE_PROFILE="$${IMAGE_PROFILE:-image-test}" deploy/image.sh yellowjack.test/yellowjack:e2e "$$image"; \
	YELLOWJACK_IMAGE="$$image" "$$with_node" $(CARGO) test --locked --offline -p yellowjack-e2e --test install -- --nocapture

.PHONY: image
image: ## Build the image (release) and its bill of materials into target/image
	deploy/image.sh yellowjack:0.1.0 target/image/yellowjack.tar

# The scripts read RELEASE_KEY and PUBLIC_KEY, files with keys of minisign, from the environment.
DIST ?= target/dist
ARCHITECTURES ?= amd64 arm64

.PHONY: release
release: deny advisories ## Make a release in target/dist: images, binaries, bills of materials, provenance, checksums; RELEASE_KEY signs
	rm -rf target/dist
	deploy/release.sh target/dist $(ARCHITECTURES)

.PHONY: verify
verify: ## Check the release in DIST (target/dist) offline, and its signature by the key in PUBLIC_KEY
	deploy/verify.sh '$(DIST)'

.PHONY: node-shell
node-shell: cluster ## Start a node and a shell in it, with kubectl, ctr and the toolbox; the node ends with the shell
	$(CARGO) run --locked -p yellowjack-e2e --bin with-node -- "$${SHELL:-sh}"

.PHONY: cluster
cluster: ## Build the control plane for tests, once, into the cache; not where KUBECONFIG or KUBEBUILDER_ASSETS is set
	@if [ -n "$${KUBEBUILDER_ASSETS:-}" ]; then \
		echo "cluster: KUBEBUILDER_ASSETS is set, nothing to build"; \
	elif [ -n "$${KUBECONFIG:-}" ]; then \
		echo "cluster: KUBECONFIG is set, nothing to build"; \
	else \
		e2e/cluster/build.sh; \
	fi

.PHONY: e2e-standin
e2e-standin: cluster ## Test the policy stand-in with real packets; says what it skips without root, nft or Go
	$(CARGO) build --locked -p yellowjack-e2e --bin with-cluster
	@export PATH="$$PATH:/usr/local/go/bin"; \
	if [ -n "$${KUBECONFIG:-}" ]; then \
		echo "skipped: the policy stand-in is tested on a cluster of its own; KUBECONFIG is set"; \
	elif command -v go >/dev/null; then \
		with_cluster="$$(realpath "$${CARGO_TARGET_DIR:-target}")/debug/with-cluster"; \
		cd e2e/standin && "$$with_cluster" go test -count=1; \
	else \
		echo "skipped: the policy stand-in is written in Go, which is not here"; \
	fi

.PHONY: crds
crds: ## Write crds/ anew from the API types
	$(CARGO) run --locked --quiet -- crds --output-dir crds

.PHONY: chart
chart: crds ## Write what is generated for the chart anew: its copies of the CRDs, and deploy/
	cp crds/*.yaml charts/yellowjack/files/crds/
	"$$(charts/build-helm.sh)" template yellowjack charts/yellowjack --namespace yellowjack-system --no-hooks > deploy/yellowjack.yaml

.PHONY: chart-lint
chart-lint: ## Lint the chart with Helm, with its defaults and with each file of charts/yellowjack/ci
	@helm="$$(charts/build-helm.sh)"; "$$helm" lint --strict --quiet charts/yellowjack; \
	for values in charts/yellowjack/ci/*.yaml; do "$$helm" lint --strict --quiet charts/yellowjack --values "$$values"; done

.PHONY: chart-test
chart-test: build cluster ## Test the chart against the real API server: admission policies, RBAC, server-side dry run
	$(CARGO) test --locked --no-fail-fast -p yellowjack-e2e --test chart -- --nocapture

.PHONY: docs
docs: ## Write the generated pages of docs/ anew
	YELLOWJACK_WRITE_DOCS=1 $(CARGO) test --locked --quiet --test generated

.PHONY: demo
demo: build cluster ## Quarantine a rogue run on a real API server, from the recorded log
	$(CARGO) run --locked -p yellowjack-e2e --bin demo

.PHONY: bench
bench: ## Measure lines per second and memory per pod (release build, one core, one minute)
	$(CARGO) bench --locked --bench speed

.PHONY: bench-react
bench-react: cluster ## Measure the time from log line to quarantine, what an Incident costs, and the cost of 1,000 idle runs
	$(CARGO) build --locked --release --workspace --bins
	YELLOWJACK_BIN="$${CARGO_TARGET_DIR:-target}/release/yellowjack" "$${CARGO_TARGET_DIR:-target}/release/bench-react"

.PHONY: bench-tenants
bench-tenants: cluster ## Measure what a tenant with 8,000 open Incidents costs the others; ARGS="--incidents 1000" for less
	$(CARGO) build --locked --release --workspace --bins
	YELLOWJACK_BIN="$${CARGO_TARGET_DIR:-target}/release/yellowjack" "$${CARGO_TARGET_DIR:-target}/release/bench-tenants" $(ARGS)

.PHONY: bench-scale
bench-scale: ## Measure 10,000 AgentRuns and 20,000 pods of KWOK; ARGS="--runs 500 --pods 1000" for less
	$(CARGO) build --locked --release --workspace --bins
	YELLOWJACK_BIN="$${CARGO_TARGET_DIR:-target}/release/yellowjack" "$${CARGO_TARGET_DIR:-target}/release/bench-scale" $(ARGS)

.PHONY: bench-node
bench-node: cluster ## Measure processor, memory and lost lines of a node's agent at 5,000 and 50,000 flows a second (7 minutes)
	$(CARGO) build --locked --release -p yellowjack --bin yellowjack
	$(CARGO) build --locked -p yellowjack-e2e --bin with-cluster --bin bench-node
	YELLOWJACK_BIN="$$(realpath "$${CARGO_TARGET_DIR:-target}")/release/yellowjack" "$${CARGO_TARGET_DIR:-target}/debug/with-cluster" "$${CARGO_TARGET_DIR:-target}/debug/bench-node"

.PHONY: bench-budget
bench-budget: ## Simulate 100,000 pod-days of honest agents and some attackers; ARGS="--parts 1" for less
	$(CARGO) bench --locked --quiet --bench budget -- $(ARGS)

.PHONY: record
record: ## Record the egress log of e2e/recording anew (root, 5 minutes)
	e2e/recording/record.sh

.PHONY: clean
clean: ## Remove what the build left in the tree; the cache stays
	$(CARGO) clean
