#!/usr/bin/env bash
# The side-by-side benchmark; MICRO=1 runs the Go benchmarks instead, in a form
# that benchstat reads. BENCH=quick sees in some five minutes that all of it runs. Arguments go to
# bench: make bench ARGS='-rounds 1'. PUBLISH=1 puts the table into docs.
#
# The build of the commit in bench/baseline runs beside this one; after a release that
# changes the figures, that file gets its commit.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need redis-server redis-server
if [ "${MICRO:-}" = 1 ]; then
  exec go test -run '^$' -bench . -benchtime "${BENCHTIME:-1s}" -count "${COUNT:-3}" ./idem ./estore ./rstore ./proxy
fi
needs 'ls /usr/lib/postgresql/*/bin/initdb' postgresql || echo "PostgreSQL is missing; its rows will say so" >&2
need wrk wrk || echo "wrk is missing; the rows that need it will say so" >&2
need nginx nginx-light || echo "nginx is missing; its row will say so" >&2
need haproxy haproxy || echo "haproxy is missing; its row will say so" >&2
make --no-print-directory build
(cd bench/rivals && go build -trimpath -ldflags '-s -w' -o ../../bin/rival ./rival)
go build -trimpath -o bin/bench ./bench

# The earlier build, from its own sources. Where git has no such commit its rows are missing.
earlier=$(cat bench/baseline)
if [ "$(cat bin/baseline/commit 2>/dev/null)" != "$earlier" ]; then
  rm -rf bin/baseline
  mkdir -p bin/baseline
  if git archive "$earlier" | tar -x -C bin/baseline --one-top-level=src; then
    (cd bin/baseline/src && go build -trimpath -ldflags '-s -w' -o ../idemproxy ./cmd/proxy)
    rm -rf bin/baseline/src
    echo "$earlier" > bin/baseline/commit
  else
    echo "commit $earlier is not to be had; the rows of the earlier build will say so" >&2
  fi
fi
if [ "${BENCH:-}" = quick ]; then
  set -- -quick "$@"
fi
BENCH_SAID="${*:+ARGS='$*'}"
BENCH_BASELINE=$earlier
BENCH_COMMIT=$(git describe --always --dirty 2>/dev/null || true)
export BENCH_SAID BENCH_BASELINE BENCH_COMMIT
ulimit -n "$(ulimit -Hn)"
bin/bench "$@"
if [ "${PUBLISH:-}" = 1 ]; then
  cp bench/results/results.md docs/performance-results.md
  mkdir -p docs/flame && cp bench/results/*.svg docs/flame/
fi
