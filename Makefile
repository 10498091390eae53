# `make serve` builds Portcullis and runs it here; `make test` runs every check.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:

CARGO ?= cargo
# Exported, so that the recipes know where the binaries are.
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# Every suite that cannot run here adds a line to this file, which `make test` shows at its end.
export PORTCULLIS_SKIPPED := $(CARGO_TARGET_DIR)/skipped
SHOW_SKIPS = if [ -z '$(KEEP_SKIPS)' ] && [ -s '$(PORTCULLIS_SKIPPED)' ]; then sort -u '$(PORTCULLIS_SKIPPED)'; fi

# A build that starts from nothing and is not repeated is faster without the data for the next one.
ifeq ($(CI),true)
export CARGO_INCREMENTAL := 0
endif

# Tests wait for each other's clocks, disks and clients about half of the time.
export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(nproc))

# aws-lc-rs is the one crypto provider and rustls the one TLS stack.
FORBIDDEN := ring openssl-sys native-tls

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'

.PHONY: serve
serve: ## Build and run: HTTPS on port 5000, a certificate and a user made on the first start
	$(CARGO) build --release --locked
	exec $(CARGO_TARGET_DIR)/release/portcullis serve

.PHONY: build
build: ## Build for development
	$(CARGO) build --locked

# glibc, linked statically: its allocator and its choice of memcpy by processor are those of a dynamic
# binary. Only the last link differs, so that the build shares all else with the other targets.
STATIC = -C target-feature=+crt-static

.PHONY: dist
dist: ## Package a static binary into dist/: archive, Debian package, image, SBOM, checksums
	$(CARGO) rustc --release --locked --bin portcullis -- $(STATIC)
	packaging/dist.sh '$(CARGO_TARGET_DIR)/release/portcullis' dist

PREFIX ?= /usr/local

.PHONY: install
install: ## Install program, documents and units of systemd below DESTDIR/PREFIX (/usr/local)
	$(CARGO) build --release --locked
	packaging/install.sh '$(CARGO_TARGET_DIR)/release/portcullis' '$(PREFIX)' '$(DESTDIR)'

# The packages of the tests, from their own build.
TESTED_DIST = $(CARGO_TARGET_DIR)/dist

# In this order: what fails fastest first, and what has to be installed last. Code and its metadata are
# two compilations for cargo: `unit` begins the first, `lint` the second, and each later step adds only
# its own crate.
STEPS := format unit lint integration doc providers fuzz-build chaos-quick soak-quick \
    install-clients clients bothways differential conformance deny

.PHONY: test
test: ## Run every check that a change must pass, and print the seconds of each
	@rm -f '$(PORTCULLIS_SKIPPED)'
	@tests/install-clients.sh announce
	@times=''; \
	report() { printf '\n%s' "$$times"; printf '%6d s  in all\n' "$$SECONDS"; }; \
	for step in $(STEPS); do \
	    start=$$SECONDS; outcome=0; \
	    $(MAKE) --no-print-directory "$$step" KEEP_SKIPS=1 || outcome=$$?; \
	    times+=$$(printf '%6d s  %s' $$((SECONDS - start)) "$$step")$$'\n'; \
	    if [ "$$outcome" -ne 0 ]; then \
	        report; echo "failed: make $$step"; exit "$$outcome"; \
	    fi; \
	done; \
	report; \
	if [ -s '$(PORTCULLIS_SKIPPED)' ]; then \
	    sort -u '$(PORTCULLIS_SKIPPED)'; \
	    echo "all checks that can run here passed; skipped: $$(sort -u '$(PORTCULLIS_SKIPPED)' | sed 's/^skipped: \([^:]*\):.*/\1/' | paste -sd , | sed 's/,/, /g')"; \
	else \
	    echo 'all checks passed'; \
	fi

# One compilation without code generation and linking, the slow steps of a test build.
.PHONY: check
check: ## The inner loop: format, then types and lints of every target; CONTRIBUTING.md has its duration
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: format
format: ## Check the format
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Check the lints
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: doc
doc: ## Build the documentation, private items too, without a warning
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items

.PHONY: providers
providers: ## Check that no second crypto provider or TLS stack is linked
	@graph=$$($(CARGO) tree --locked --edges normal --prefix none --format '{p}'); \
	for name in $(FORBIDDEN); do \
	    if grep -q "^$$name v" <<<"$$graph"; then \
	        $(CARGO) tree --locked --edges normal --invert "$$name"; \
	        echo "$$name must not be linked" >&2; exit 1; \
	    fi; \
	done

.PHONY: deny
deny: install-deny ## Check licenses, sources and bans of all dependencies
	$(CARGO) deny --locked --workspace check --hide-inclusion-graph bans licenses sources

# The last step of `make test`, since it may have to compile the tool: without optimisation that takes 80
# seconds of processor time instead of 205, and the tool is fast enough. It does not use our target
# directory, where its parts would stay.
.PHONY: install-deny
install-deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || \
	    env -u CARGO_TARGET_DIR $(CARGO) install --locked --debug --version 0.20.2 cargo-deny

.PHONY: unit
unit: forget-skips ## Run the tests of the modules
	$(CARGO) test --locked --lib
	@$(SHOW_SKIPS)

.PHONY: integration
integration: forget-skips ## Run the tests through the public surface, and those of documentation
	$(CARGO) test --locked --bins --test it --bench pure
	$(CARGO) test --locked --doc
	@$(SHOW_SKIPS)

# A seed can be given: make chaos SEED=7.
CHAOS = $(CARGO) test --locked --test chaos -- $(if $(SEED),--seed $(SEED))

.PHONY: chaos
chaos: ## Kill the server 500 times while clients push, and compare the tree with the acknowledged content
	$(CHAOS) --kills 500

.PHONY: chaos-quick
chaos-quick: ## The same with 20 kills
	$(CHAOS)

SOAK = $(CARGO) test --locked --test soak -- $(if $(SEED),--seed $(SEED))

.PHONY: soak
soak: ## Push and pull at full rate for 10 minutes while certificates and users change, then stop the server in the middle
	$(SOAK) --seconds 600

.PHONY: soak-quick
soak-quick: ## The same for 40 seconds
	$(SOAK) --seconds 40

# Together with our own package, whose development dependencies then have a say in the features of the
# dependencies: otherwise cargo compiles these once more.
.PHONY: fuzz-build
fuzz-build: ## Build the fuzz targets and run them on the stored inputs
	$(CARGO) test --locked --package portcullis --package portcullis-fuzz --test regressions

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZ_SECONDS seconds (60)
	fuzz/run.sh

.PHONY: install-clients
install-clients: ## Install the programs that the tests drive (Debian and Ubuntu, as root; INSTALL=no: none)
	tests/install-clients.sh

# The test runner hides the output of passing tests, so the skips are shown from the file.
.PHONY: clients
clients: forget-skips ## Drive the binary with docker, skopeo, podman and ctr, use its packages, and scan its TLS
	$(CARGO) rustc --locked --example packaged -- $(STATIC)
	DIST_COMPRESSION=1 packaging/dist.sh '$(CARGO_TARGET_DIR)/debug/examples/packaged' '$(TESTED_DIST)'
	PORTCULLIS_DIST='$(TESTED_DIST)' $(CARGO) test --locked --test clients
	@$(SHOW_SKIPS)

# REGISTRY2 may name a program other than docker-registry, such as a registry:3.
.PHONY: bothways
bothways: forget-skips ## Have docker-registry and the binary serve one tree in turns, move from nginx and back, damage trees
	$(CARGO) test --locked --test bothways
	@$(SHOW_SKIPS)

.PHONY: differential
differential: forget-skips ## Send the same requests to registry:2 and to the binary, and compare the responses
	$(CARGO) test --locked --test differential
	@$(SHOW_SKIPS)

# The binary comes from the build of the tests: `cargo build` would compile the dependencies once
# more, with other features.
.PHONY: conformance
conformance: forget-skips ## Run the OCI conformance suite against the binary
	$(CARGO) test --locked --no-run --test clients
	tests/conformance.sh '$(CARGO_TARGET_DIR)/debug/portcullis'

.PHONY: forget-skips
forget-skips:
	@[ -n '$(KEEP_SKIPS)' ] || rm -f '$(PORTCULLIS_SKIPPED)'

# The comparing program is not optimised: it waits for servers and clients, which are. The measured
# binary is the one that `make serve` builds.
COMPARE = $(CARGO) bench --locked --profile dev --bench compare -- --write \
    --binary '$(CARGO_TARGET_DIR)/release/portcullis'

.PHONY: bench
bench: ready-to-compare ## Compare with nginx + registry:2 and with the machine: docs/BENCHMARKS.md
	$(COMPARE)

.PHONY: bench-quick
bench-quick: ready-to-compare ## The same with smaller figures, in about two minutes
	$(COMPARE) --quick

.PHONY: bench-pure
bench-pure: ## Time the functions that use neither disk nor network
	$(CARGO) bench --locked --bench pure

.PHONY: ready-to-compare
ready-to-compare:
	tests/install-clients.sh bench
	$(CARGO) build --release --locked

.PHONY: clean
clean: ## Remove the build
	$(CARGO) clean
	rm -rf results
