# fgw, the facet gateway. `make help` lists the targets.

SHELL   := /bin/bash
GO      ?= go
VERSION ?= 0.1.0
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
FUZZTIME ?= 10s
BENCHTIME ?= 1s

# The program is static: cgo is for the seccomp compiler and the race detector.
export CGO_ENABLED := 0

# As apps are built, so that what is compiled for the program need not be compiled for them.
FLAGS     := -trimpath -gcflags=all=-dwarf=false
LDFLAGS   := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
TEMPLATES := sdk/examples/guestbook sdk/examples/canvas sdk/examples/appmaker gateway/appvendor/templates/counter

.DEFAULT_GOAL := build
.PHONY: help build appvendor run setup test test-cgroup2 bench bench-go fuzz generate clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: appvendor ## the program, bin/fgw
	$(GO) build $(FLAGS) -ldflags '$(LDFLAGS)' -o bin/fgw ./cmd/fgw

# What new apps are built from. The file is left alone where nothing changed,
# so that the build after it has nothing to do either.
appvendor:
	@$(GO) run ./scripts/appvendor -version v$(VERSION) $(TEMPLATES)

run: build ## a gateway with sample apps and a studio; prints what to click, ^C stops it
	bin/fgw run

setup: ## installs what the tests need (as root; otherwise prints the command)
	@scripts/setup.sh

test: ## everything: build, checks, all tests, race detector, a cgroup v2 machine
	@scripts/test.sh

test-cgroup2: build ## confinement and one request on a virtual machine with cgroup v2
	@scripts/test-cgroup2.sh

bench: build ## one table of figures beside floors of the same run (as root; BENCH_PEERS=1: workerd too)
	@scripts/bench.sh

bench-go: build ## the benchmarks of the packages (BENCHTIME)
	@scripts/bench.sh go $(BENCHTIME)

fuzz: ## each fuzz target for FUZZTIME
	@scripts/fuzz.sh $(FUZZTIME)

generate: ## the embedded seccomp filters, from the policy (needs libseccomp-dev)
	CGO_ENABLED=1 $(GO) generate ./...

clean: ## removes what was built
	rm -rf bin gateway/appvendor/files/appvendor.zip
