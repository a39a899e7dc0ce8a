#!/usr/bin/env bash
# Three evenings of somebody on call: Redis dies and comes back empty, a backend cuts one request in ten,
# a reload is wrong. `make test` plays them, too.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need redis-server redis-server
need prometheus prometheus
need jq jq
need gcc gcc # for the race detector
CGO_ENABLED=1 go test -race -count=1 -v -run '^TestEvening' ./test
