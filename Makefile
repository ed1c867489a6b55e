# Two commands: `make run` sets everything up and starts the first guest; `make test` sets up and passes all tests.

PREFIX ?= /usr/local
CARGO ?= cargo

.PHONY: run build test test-full lint install help

run: ## set up, build, start the daemon, launch the first guest
	@scripts/setup.sh run
	@scripts/run.sh

build: ## the program, optimised, into target/release
	@scripts/setup.sh build
	@$(CARGO) xtask build --release

test: ## set up and pass all tests (about 25 minutes on two cores)
	@since=$$(date +%s); scripts/setup.sh test && $(CARGO) xtask test --since=$$since

test-full: ## everything: resumable, prints what is left
	@since=$$(date +%s); scripts/setup.sh test-full && $(CARGO) xtask test --full --since=$$since

lint: ## format, clippy and the checks of the house
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets
	@$(CARGO) xtask house
	@$(CARGO) xtask tidy

install: build ## the program and its small executables into PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 target/release/posada target/release/posada-shim target/release/posada-worker $(DESTDIR)$(PREFIX)/bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
