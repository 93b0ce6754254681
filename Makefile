# make run, test, security, bench, fuzz, exhaust, check, build, setup

GO      ?= go
FUZZTIME ?= 10s
# What the end-to-end tests start, and the distribution's package of each.
PROGRAMS := radicale:radicale prometheus:prometheus htpasswd:apache2-utils curl:curl \
	postgres:postgresql redis-server:redis-server redis-sentinel:redis-sentinel redis-cli:redis-tools \
	chromium:chromium npm:npm
# What else they need: nothing would be on the pages without a font.
PACKAGES := ca-certificates fonts-dejavu-core
# axe-core tells what keeps people out of a page. It lies in the user's cache.
AXE_VERSION := 4.14.1
AXE_SHA256  := 29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
AXE         := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gatehouse/axe-core-$(AXE_VERSION).js
export GATEHOUSE_AXE ?= $(AXE)

.DEFAULT_GOAL := build
.PHONY: run test security lint check bench fuzz exhaust build setup packages

run:
	$(GO) run ./cmd/gatehouse

# Static: no C library, so that it runs in an empty container. The flags are
# those of the Dockerfile.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/gatehouse ./cmd/gatehouse

# One package at a time: tests start servers and say within what time something
# must have happened, which two packages at once would take from each other. Four
# tests at a time: most of them wait for a server.
test: setup lint check
	$(GO) test -race -p 1 -parallel 4 -timeout 20m $(TESTFLAGS) ./...

# What hostile clients and upstreams are known to try, and what comes of it: the
# table in .github/SECURITY.md, printed, and written there if it has changed.
security:
	$(GO) test ./cmd/gatehouse -run '^TestSecurity$$' -count 1 -args -write-security-table
	@sed -n '/^<!-- written/,/^<!-- until/p' .github/SECURITY.md

lint:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		printf 'not formatted, run gofmt -w:\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# A pair for localhost, unless there is one: a private key that stands in a
# repository is none. Go brings the program.
examples/tls/cert.pem:
	cd $(@D) && $(GO) run "$$($(GO) env GOROOT)/src/crypto/tls/generate_cert.go" --ca --host localhost,127.0.0.1 --ecdsa-curve P256

# Every gateway.yaml in the repository loads, and its tests: hold.
check: build examples/tls/cert.pem
	@find . -name gateway.yaml -not -path '*/testdata/*' -not -path './.git/*' | sort | while read -r file; do \
		echo "bin/gatehouse check --config $$file"; \
		out=$$(./bin/gatehouse check --config "$$file" 2>&1) || { printf '%s\n' "$$out" >&2; exit 1; }; \
	done

# What a request costs beside a bare ReverseProxy, compared with the figures in
# cmd/loadtest; then each part by itself. `go run ./cmd/loadtest -help` has more.
bench:
	$(GO) run ./cmd/loadtest -short -compare
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Each fuzz target FUZZTIME long; with FUZZ=PATTERN those whose names match.
fuzz:
	@GO="$(GO)" FUZZ="$(FUZZ)" .ci/fuzz $(FUZZTIME)

# What attacks cost the gateway and its honest clients: a table, in half an hour.
# Each attack comes three times for EXHAUST, with half as long without it before.
# With ATTACKS=flood those whose names match.
EXHAUST ?= 10s
exhaust:
	@status=$$(mktemp); trap 'rm -f "$$status"' EXIT; \
	{ GATEHOUSE_EXHAUST=$(EXHAUST) $(GO) test -count=1 -timeout 60m -run '^TestExhaustion$$/($(ATTACKS))' -v ./cmd/gatehouse; echo $$? >"$$status"; } | \
		grep --line-buffered -E '^\||^ *---|exhaust_test.go|FAIL'; exit "$$(cat "$$status")"

# Installs what the tests start and this machine lacks.
setup: packages $(AXE)

# The packages would start services of their own: policy-rc.d is Debian's way to
# say no.
packages:
	@for d in /usr/lib/postgresql/*/bin; do PATH="$$PATH:$$d"; done; \
	missing=; packages=; for p in $(PROGRAMS); do \
		command -v $${p%:*} >/dev/null || { missing="$$missing $${p%:*}"; packages="$$packages $${p#*:}"; }; done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "not installed:$$missing; the tests that need them are skipped (as root on Debian: make setup)" >&2; exit 0; fi; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then \
		printf '#!/bin/sh\nexit 101\n' >$$policy; chmod +x $$policy; trap "rm -f $$policy" EXIT; fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -q </dev/null && apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends $$packages $(PACKAGES) </dev/null

$(AXE): | packages
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && cd "$$dir" && \
	if ! npm pack --silent axe-core@$(AXE_VERSION) >/dev/null; then \
		echo "no axe-core $(AXE_VERSION); the test that needs it is skipped" >&2; exit 0; fi; \
	tar -xzf axe-core-$(AXE_VERSION).tgz package/axe.min.js && \
	echo "$(AXE_SHA256)  package/axe.min.js" | sha256sum --check --quiet && \
	mkdir -p $(@D) && mv package/axe.min.js $@
