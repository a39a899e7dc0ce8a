# IdemProxy. `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
GO ?= go
export CGO_ENABLED ?= 0
# What `idemproxy version` says; empty: the commit. `make package` sets it.
# A build from a checkout says its commit, also where Go is told not to ask git.
VERSION ?= $(shell git describe --tags --always --dirty --abbrev=12 2>/dev/null)
LDFLAGS = -s -w$(if $(VERSION), -X github.com/idemproxy/idemproxy/app.linked=$(VERSION))

.PHONY: package help run build test evenings torture test-only race fuzz lint docs bench profile loadtest up down clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: ## Build, then run the proxy (embedded store) with a demo backend, and say what to try
	@scripts/run.sh

build: ## Build bin/idemproxy and bin/backend, static
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/idemproxy ./cmd/proxy
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/backend ./cmd/backend

test: ## Everything, with the race detector; installs what it needs (redis-server, nginx, chromium, ...)
	@scripts/test.sh

test-only: ## The quick tests: no 45 s jobs, redis-server must be there
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -count=1 -short ./...

fuzz: ## Each fuzz target for 30 s
	@scripts/fuzz.sh 30s

evenings: ## Three evenings on call, with a real Prometheus and the commands of docs/runbook.md
	@scripts/evenings.sh

torture: ## The long proofs, about two hours: histories, faults, crashes, damage, overload, soak, fuzzing
	@scripts/torture.sh

lint: ## Vet, golangci-lint (with gofumpt, staticcheck), tidiness, known vulnerabilities
	@scripts/lint.sh

docs: ## Print the reference documents anew
	UPDATE=1 $(GO) test -count=1 -run Document ./idem ./config ./metrics ./proxy ./app

bench: ## Side by side with nginx, haproxy and others; BENCH=quick for a short run, MICRO=1 for the Go benchmarks
	@scripts/bench.sh $(ARGS)

profile: ## Where the CPU time goes: flame graphs, a table of shares and pprof files, into bench/results
	@scripts/bench.sh -only '^profiles$$'

loadtest: ## Attack a proxy that is started for it, and count executions
	$(GO) run ./loadtest

up: ## Redis, Toxiproxy, demo backend and proxy: in Docker if an engine answers, else natively
	@scripts/up.sh

down: ## End what `make up` started
	@scripts/down.sh

package: ## What is shipped, into dist/: static binary, Debian package, SBOM; and the image, if a Docker engine answers
	scripts/package.sh

clean: ## Remove what was built
	rm -rf bin dist
