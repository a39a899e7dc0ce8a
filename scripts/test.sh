#!/usr/bin/env bash
# Every test, with the race detector. Toxiproxy and everything else of Go comes
# with the modules; Redis is the system's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
. scripts/tests.sh
trap tell EXIT

need redis-server redis-server
need redis-cli redis-tools
need gcc gcc # for the race detector, and for the checker that spin writes
need spin spin
need nginx nginx-light # which the proxy is compared with
need chromium chromium # which the admin page is tested in
need promtool prometheus # for the alert rules
need prometheus prometheus # for the evenings on call
need jq jq # which the runbook uses
need node nodejs # for a recipe of the documentation
need python3 python3 # for another
# Servers that read what the proxy forwards, with nginx, node and python3. Debian has some where only root looks.
PATH=$PATH:/usr/sbin
need apache2 apache2-bin
need lighttpd lighttpd
need haproxy haproxy
need gunicorn gunicorn
need curl curl
need wget wget # which docs/clients.md says something about
# Databases that backends keep receipts in, and what the examples reach them by.
needs 'ls /usr/lib/postgresql/*/bin/initdb' postgresql
need pgbouncer pgbouncer # which the PostgreSQL store is reached through
needs 'command -v mariadbd' mariadb-server
needs "python3 -c 'import psycopg' || /usr/bin/python3 -c 'import psycopg'" python3-psycopg
needs "python3 -c 'import flask' || /usr/bin/python3 -c 'import flask'" python3-flask
need_node_pg
# Everything that tests build is built first: most of them run processes and wait for them, beside which a compiler is in the way.
make --no-print-directory build >/dev/null
CGO_ENABLED=1 go build -race ./...
CGO_ENABLED=1 go build -race -tags failpoints -o /dev/null ./cmd/proxy
# Modules beside the product's: they build, their tests pass, and their benchmarks run once.
for module in $(find . -mindepth 2 -name go.mod -not -path './.git/*'); do
  (cd "$(dirname "$module")" && go vet ./... && tests -count=1 ./... &&
    go test -count=1 -run '^$' -bench . -benchtime 1x ./... >/dev/null)
done
# The binary with OpenTelemetry, which is not built otherwise.
go vet -tags otel ./app ./cmd/... && CGO_ENABLED=1 tests -race -tags otel -count=1 -run TestSpans ./app
# What TestFailpoints does to a proxy, itself.
tests -tags failpoints -count=1 ./internal/failpoint
# What runs whole proxies and databases has the machine to itself: beside other packages, it stands still now and then.
CGO_ENABLED=1 tests -race -shuffle=on -count=1 -timeout 60m $(go list ./... | grep -v '/test$') || others=$?
CGO_ENABLED=1 tests -race -shuffle=on -count=1 -timeout 60m ./test
exit "${others:-0}"
