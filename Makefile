# make run     set up what is missing, build, and run the app role with a demo user and sample documents
# make test    set up what is missing and run every test
# make check   formatting, clippy, documentation, shell scripts: all as errors
# make bench   the figures, each with its peer beside it (see benches/README.md)

SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/agent
# Outside the checkout, so that a fresh clone does not compile the world again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
AGENT := $(CARGO_TARGET_DIR)/release/agent
MODEL := $(CACHE)/model
SCRIPTS := $(wildcard packaging/*.sh benches/*.sh) .ci/run

.PHONY: run build test check bench model setup

run: build
	@packaging/demo.sh $(AGENT) $(CACHE)

build: setup
	cargo build --locked --release

test: model
	AGENT_TEST_MODEL_DIR=$(MODEL) cargo test --locked --release

# The embedding model for tests and benches; `make run` installs its own into the data directory.
model: build
	@packaging/model.sh $(AGENT) $(CACHE) $(MODEL)

check:
	@packaging/setup.sh --check
	cargo fmt --check
	cargo clippy --locked --all-targets --features bench -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	shellcheck $(SCRIPTS)

bench: model
	AGENT_TEST_MODEL_DIR=$(MODEL) benches/run.sh

setup:
	@packaging/setup.sh
