# gosix: `make run` serves, `make test` tests. `make help` lists the rest.
GO       ?= go
TOOL      = $(GO) tool -modfile=tools/go.mod
BIN       = bin
GO_FILES  = $(shell find . -name '*.go' -not -path './bin/*' -not -path '*/node_modules/*')
export CGO_ENABLED ?= 0

# What shows gRPC's requests in a browser calls methods by names from templates. The linker
# would have to keep every method there is: a tenth of what an idle gateway has in memory.
export GOFLAGS += -tags=grpcnotrace

# Git does not answer about files of another owner, and go build stops at that. Such a
# checkout, as machines for tests have it, is built without the version stamp.
STAMP    := $(if $(shell git rev-parse HEAD 2>/dev/null),auto,false)
ifeq ($(STAMP),false)
export GOFLAGS += -buildvcs=false
endif

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

# The node of a cluster is built for what a profile of it says, which takes a minute more once. It
# is named here, and not default.pgo, so that tests and vet do not compile everything twice.
PGO       = -pgo=cmd/gateway/gateway.pgo

.PHONY: build
build: gosix ## build the three programs into bin/
	$(GO) build -buildvcs=$(STAMP) -o $(BIN)/ ./cmd/admin
	$(GO) build -buildvcs=$(STAMP) $(PGO) -o $(BIN)/ ./cmd/gateway

.PHONY: gosix
gosix:
	$(GO) build -buildvcs=$(STAMP) -o $(BIN)/ ./cmd/gosix

.PHONY: run
run: gosix ## serve: embedded etcd, admin on 127.0.0.1:9180, gateway on :9080
	@exec $(BIN)/gosix run -c conf/run.yaml

.PHONY: demo
demo: gosix ## a fake provider, a route over two instances, a streamed answer
	@$(GO) run ./t/demo -gosix $(BIN)/gosix

.PHONY: test
test: ## every test, with the race detector; what runs the programs over both engines
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...
	GOSIX_ENGINE=std CGO_ENABLED=1 $(GO) test -race -timeout 20m ./t

.PHONY: sdk
sdk: ## the official SDKs, of Go and JavaScript, as clients
	cd t/sdk/js && npm ci --no-progress
	cd t/sdk && $(GO) vet ./... && $(GO) test -timeout 10m ./...

LAB      ?= $(or $(TMPDIR),/tmp)/gosix-faultlab
LAB_ARGS ?=

.PHONY: lab
lab: lab-debian ## faults, each for some seconds: make lab LAB_ARGS="-only T3 -seed 7"
	cd t/faultlab && $(GO) vet ./... && $(GO) test -timeout 5m ./...
	cd t/faultlab && $(GO) build -o $(LAB)/faultlab . && $(LAB)/faultlab -short -work $(LAB) $(LAB_ARGS)

.PHONY: lab-long
lab-long: lab-debian ## faults at full length; goes on where it was stopped
	cd t/faultlab && $(GO) build -o $(LAB)/faultlab . && $(LAB)/faultlab -long -resume -work $(LAB) $(LAB_ARGS)

.PHONY: lab-table
lab-table: ## the worst figures of all runs of the lab: make lab-table LAB_ARGS="-into docs/reliability.md"
	cd t/faultlab && $(GO) build -o $(LAB)/faultlab .
	$(LAB)/faultlab -table $(LAB)/results.jsonl $(LAB_ARGS)

# An etcd whose watches are known to lose events. Without it what needs it says that it was
# not run.
.PHONY: lab-debian
lab-debian:
	@mkdir -p $(LAB)/debian; cd $(LAB)/debian; \
	if [ ! -x usr/bin/etcd ] && command -v apt-get >/dev/null; then \
	  { apt-get download -qq etcd-server || { apt-get update -qq && apt-get download -qq etcd-server; }; } \
	  && dpkg -x etcd-server_*.deb . && rm -f etcd-server_*.deb || echo "no etcd-server of Debian here"; \
	fi

.PHONY: check
check: ## format, vet, staticcheck, the shape of the project
	@out="$$($(TOOL) gofumpt -l $(GO_FILES))"; if [ -n "$$out" ]; then echo "not gofumpt-ed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cmd/... ./pkg/...
	$(TOOL) staticcheck ./...
	$(GO) test ./internal/arch

.PHONY: fmt
fmt: ## format everything
	$(TOOL) gofumpt -w $(GO_FILES)

BENCH      ?= $(or $(TMPDIR),/tmp)/gosix-bench
BENCH_ARGS ?=

.PHONY: bench
bench: bench-build ## what a request costs beside other gateways: make bench BENCH_ARGS=-quick
	$(BENCH)/bin/bench -work $(BENCH) $(BENCH_ARGS)

# The gateways that gosix is compared with are those of Debian; without apt-get, those at hand.
.PHONY: bench-build
bench-build:
	@if command -v apt-get >/dev/null; then bench/debian $(BENCH)/debian nginx haproxy || echo "no packages of Debian here"; fi
	$(GO) build -buildvcs=$(STAMP) $(PGO) -o $(BENCH)/bin/ ./cmd/gateway
	$(GO) build -buildvcs=$(STAMP) -o $(BENCH)/bin/ ./bench ./bench/profiled

.PHONY: bench-go
bench-go: ## the Go benchmarks: make bench-go BENCH_FLAGS="-benchtime 1x"
	$(GO) test -run '^$$' -bench . -benchmem $(BENCH_FLAGS) ./pkg/...

# A worktree of the other revision is measured in turns with this one.
BASE      ?= HEAD
BENCH_PKG ?= ./pkg/...
BENCH_RUN ?= .
.PHONY: bench-compare
bench-compare: ## the Go benchmarks against another revision: make bench-compare BASE=main BENCH_PKG=./pkg/route
	@BENCHSTAT="$(TOOL) benchstat" GO="$(GO)" bench/compare "$(BENCH)/base" "$(BASE)" "$(BENCH_RUN)" $(BENCH_PKG)

.PHONY: fuzz
fuzz: ## every fuzz target for 30 s
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s $$pkg || exit 1; \
	  done; \
	done

.PHONY: golden
golden: build ## replay recorded exchanges: make golden GOLDEN=path/to/golden
	$(GO) run ./t/golden -gosix $(BIN)/gosix -corpus $(GOLDEN)
