#!/usr/bin/env bash
# The main job on a machine with Go and nothing else. Every run starts with an
# empty store, in a directory that is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

make --no-print-directory build
data=$(mktemp -d)
cat <<'TEXT'

IdemProxy listens on :8080, with a demo backend on :9000. In another terminal:

  curl -i localhost:8080/ -H 'Idempotency-Key: order-1' -d 'amount=5'    # executed
  curl -i localhost:8080/ -H 'Idempotency-Key: order-1' -d 'amount=5'    # replayed
  curl -i localhost:8080/ -H 'Idempotency-Key: order-1' -d 'amount=6'    # 422: another payload
  curl -s 'localhost:9000/executions?key=order-1'                        # executed once
  curl -i 'localhost:8080/cut?executed=1' -H 'Idempotency-Key: order-2' -d 'amount=5'   # cut, and answered all the same
  curl -s 'localhost:9000/executions?key=order-2'                        # executed once
  curl -s localhost:8081/metrics | grep idemproxy_requests_total

What it does is at http://localhost:8081/, too.

Ctrl-C ends it.

TEXT
bin/backend -receipts "$data/backend.db" &
backend=$!
bin/idemproxy --store "embedded:$data/records" --on-ambiguous settle --receipts http://127.0.0.1:9000/receipts "$@" &
proxy=$!
# A signal reaches the proxy too (from the terminal, or from here); it drains.
trap 'kill -TERM "$proxy" 2>/dev/null || true' INT TERM
code=0
while true; do
  wait "$proxy" && code=0 || code=$?
  kill -0 "$proxy" 2>/dev/null || break
done
kill "$backend" 2>/dev/null || true
wait "$backend" 2>/dev/null || true
rm -rf "$data"
exit "$code"
