# The first two targets are what the README tells a newcomer to run.

GO      ?= go
LDFLAGS ?= -s -w
GOLANGCI ?= $(shell $(GO) env GOPATH)/bin/golangci-lint

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build and start on the embedded database, ready to use
	./bin/rollcall serve --data ./data

signup: ## build and start the example signup, beside a server that make run has started
	./scripts/build-web packages
	$(GO) run ./examples/signup

people: ## build and start the example people, beside a server that make run has started
	./scripts/build-web people
	$(GO) run ./examples/people

express: ## start the example express, beside a server that make run has started
	./scripts/build-web express
	node examples/express/server.js

test: build test-deps ## every test of every part, with what they need installed for them
	$(GO) vet ./...
	$(GO) test -race -timeout 15m ./...
	cd web && npm test

build: ## build ./bin/rollcall
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '$(LDFLAGS)' -o bin/rollcall ./cmd/rollcall

test-deps: ## install what the tests need, and build the web packages
	./scripts/install-test-deps
	./scripts/build-web

lint: $(GOLANGCI) ## golangci-lint with the rules of .golangci.yml
	$(GOLANGCI) run ./...
	GOOS=darwin $(GO) build ./...

$(GOLANGCI):
	$(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

check: lint test ## what CI runs, and that nothing generated differs
	git diff --exit-code

generate: ## render the API reference again, after a change of api/openapi.yaml
	$(GO) generate ./...

update: build ## rewrite the golden transcripts; look at the diff, then commit
	$(GO) test ./internal/apitest -run Transcripts -update

bench: build ## the benchmarks that the README quotes
	./bin/rollcall bench

fuzz: ## every fuzz target for half a minute
	./scripts/fuzz 30s

.PHONY: help run signup people express test build test-deps lint check generate update bench fuzz
.DEFAULT_GOAL := help
