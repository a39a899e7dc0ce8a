#!/usr/bin/env bash
# The side-by-side benchmark; MICRO=1 runs the Go benchmarks instead, in a form
# that benchstat reads. Arguments go to bench: make bench ARGS='-rounds 1'. PUBLISH=1 puts the
# table into docs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need redis-server redis-server
if [ "${MICRO:-}" = 1 ]; then
  exec go test -run '^$' -bench . -benchtime "${BENCHTIME:-1s}" -count "${COUNT:-3}" ./idem ./estore ./rstore ./proxy
fi
need wrk wrk || echo "wrk is missing; the rows that need it will say so" >&2
need nginx nginx-light || echo "nginx is missing; its row will say so" >&2
need haproxy haproxy || echo "haproxy is missing; its row will say so" >&2
make --no-print-directory build
(cd bench/rivals && go build -trimpath -ldflags '-s -w' -o ../../bin/rival ./rival)
go build -trimpath -o bin/bench ./bench
ulimit -n "$(ulimit -Hn)"
bin/bench "$@"
if [ "${PUBLISH:-}" = 1 ]; then
  cp bench/results/results.md docs/performance-results.md
  mkdir -p docs/flame && cp bench/results/*.svg docs/flame/
fi
