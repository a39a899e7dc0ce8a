#!/usr/bin/env bash
# The main job on a machine with Go and nothing else. Every run starts with an
# empty store, in a directory that is removed at the end; or with the store that
# IDEMPROXY_STORE names.
set -euo pipefail
cd "$(dirname "$0")/.."

listen=${IDEMPROXY_LISTEN:-:8080} admin=${IDEMPROXY_ADMIN-127.0.0.1:8081} backend_port=${BACKEND_PORT:-9000}
proxy_port=${listen##*:} admin_port=${admin##*:}

# answers says whether somebody listens on a port.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free() { # WHAT PORT SETTING
  if answers "$2"; then
    echo "run.sh: another process has port $2, which is for $1: end it, or take another port: $3 make run" >&2
    exit 1
  fi
}
free "the proxy" "$proxy_port" IDEMPROXY_LISTEN=:18080
free "the proxy's admin listener" "$admin_port" IDEMPROXY_ADMIN=127.0.0.1:18081
free "the demo backend" "$backend_port" BACKEND_PORT=19000

make --no-print-directory build
data=$(mktemp -d)
backend='' proxy=''
# Whatever ends this script, nothing of it is left.
stop() {
  [ -z "$proxy" ] || kill -TERM "$proxy" 2>/dev/null || true
  [ -z "$proxy" ] || wait "$proxy" 2>/dev/null || true
  [ -z "$backend" ] || kill "$backend" 2>/dev/null || true
  [ -z "$backend" ] || wait "$backend" 2>/dev/null || true
  rm -rf "$data"
}
trap stop EXIT
cat <<TEXT

IdemProxy listens on :$proxy_port, with a demo backend on :$backend_port. In another terminal:

  curl -i localhost:$proxy_port/ -H 'Idempotency-Key: order-1' -d 'amount=5'    # executed
  curl -i localhost:$proxy_port/ -H 'Idempotency-Key: order-1' -d 'amount=5'    # replayed
  curl -i localhost:$proxy_port/ -H 'Idempotency-Key: order-1' -d 'amount=6'    # 422: another payload
  curl -s 'localhost:$backend_port/executions?key=order-1'                        # executed once
  curl -i 'localhost:$proxy_port/cut?executed=1' -H 'Idempotency-Key: order-2' -d 'amount=5'   # cut, and answered all the same
  curl -s 'localhost:$backend_port/executions?key=order-2'                        # executed once
  curl -s localhost:$admin_port/metrics | grep idemproxy_requests_total

What it does is at http://localhost:$admin_port/, too.

Ctrl-C ends it.

TEXT
bin/backend -listen "127.0.0.1:$backend_port" -receipts "$data/backend.db" 2>"$data/backend.log" &
backend=$!
# It says so once it listens: that something answers on the port could be somebody else's doing.
until grep -qs '^demo backend on' "$data/backend.log"; do
  kill -0 "$backend" 2>/dev/null || { cat "$data/backend.log" >&2; echo "run.sh: the demo backend did not start" >&2; exit 1; }
  sleep 0.1
done
# In a process group of its own: what the terminal signals is passed on below, once. A
# second signal would cut the requests under way.
set -m
bin/idemproxy --backend "http://127.0.0.1:$backend_port" \
  --store "${IDEMPROXY_STORE:-embedded:$data/records}" --on-ambiguous settle --receipts "http://127.0.0.1:$backend_port/receipts" "$@" &
proxy=$!
set +m
trap 'kill -TERM "$proxy" 2>/dev/null || true' INT TERM
code=0
while true; do
  wait "$proxy" && code=0 || code=$?
  kill -0 "$proxy" 2>/dev/null || break
done
exit "$code"
