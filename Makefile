# Two commands: `make run` sets everything up and starts the first guest; `make test` sets up and passes all tests.

PREFIX ?= /usr/local
CARGO ?= cargo

# Test runs keep their target directory in the cache when one is named.
ifneq ($(POSADA_CACHE),)
test test-full: export CARGO_TARGET_DIR ?= $(POSADA_CACHE)/target
endif

.PHONY: run setup build test test-full lint install help

run: ## set up, build, start the daemon, launch the first guest
	@scripts/setup.sh run
	@scripts/run.sh

setup: ## only what `make run` installs
	@scripts/setup.sh run

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

install: build ## the program, its small executables and the unit into PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system
	for program in target/release/posada target/release/posada-*[a-z]; do \
	    case $$program in *.d) ;; *) install -m 755 $$program $(DESTDIR)$(PREFIX)/bin ;; esac; done
	sed 's|@PREFIX@|$(PREFIX)|' dist/posada.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/posada.service

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
