#!/usr/bin/env bash
# The Go benchmarks, in a form that benchstat reads.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need redis-server redis-server
go test -run '^$' -bench . -benchtime "${BENCHTIME:-1s}" -count "${COUNT:-3}" ./idem ./estore ./rstore ./proxy
