#!/usr/bin/env bash
# The customer's stage: Redis 6379, Toxiproxy 8474 with backend_pipe on 9001,
# demo backend 9000, proxy 8080 (forwarding through backend_pipe), admin
# 127.0.0.1:8081. In Docker where an engine answers, natively otherwise or with
# NATIVE=1.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
state=${IDEMPROXY_STATE:-${TMPDIR:-/tmp}/idemproxy-up-$(id -u)}

# Where it listens; compose reads the same variables.
admin=http://127.0.0.1:${ADMIN_PORT:-8081} proxy=http://127.0.0.1:${IDEMPROXY_PORT:-8080} pipe=http://127.0.0.1:${TOXIPROXY_PORT:-8474}

# token makes a token for page and CLI, once. The proxy in the container is another
# user, so the file is readable; its folder keeps everybody else out.
token() {
  export ADMIN_TOKEN_FILE=${ADMIN_TOKEN_FILE:-$PWD/bin/secrets/admin-token}
  [ ! -d "$ADMIN_TOKEN_FILE" ] || rmdir "$ADMIN_TOKEN_FILE" # which compose makes of a file that is not there
  if [ ! -s "$ADMIN_TOKEN_FILE" ]; then
    mkdir -p -m 700 "$(dirname "$ADMIN_TOKEN_FILE")"
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$ADMIN_TOKEN_FILE"
    chmod 644 "$ADMIN_TOKEN_FILE"
  fi
}

ready() {
  for _ in $(seq 300); do
    curl -fsS -o /dev/null "$admin/readyz" 2>/dev/null && return 0
    sleep 0.1
  done
  echo "the proxy does not become ready" >&2
  curl -sS "$admin/readyz" >&2 || true
  return 1
}

if [ "${NATIVE:-}" != 1 ] && engine; then
  scripts/images.sh
  token
  compose up -d
  ready
  echo "up, in Docker: proxy $proxy, admin $admin, Toxiproxy $pipe"
  echo "the admin page asks for the token in $ADMIN_TOKEN_FILE; from a shell:"
  echo "  bin/idemproxy list --admin ${admin#http://} --admin-token-file $ADMIN_TOKEN_FILE"
  exit 0
fi

need redis-server redis-server
make --no-print-directory build
toxiproxy=$(tool toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0)
mkdir -p "$state"
launch() { # launch NAME COMMAND...
  local name=$1
  shift
  if [ -f "$state/$name.pid" ] && kill -0 "$(cat "$state/$name.pid")" 2>/dev/null; then
    echo "$name is up already" >&2
    return 0
  fi
  setsid "$@" >"$state/$name.log" 2>&1 </dev/null &
  echo $! >"$state/$name.pid"
}
launch redis redis-server --port 6379 --bind 127.0.0.1 --dir "$state" --appendonly yes --appendfsync always --save ''
launch toxiproxy "$toxiproxy" -host 127.0.0.1 -port 8474 -config deploy/toxiproxy.native.json
launch backend bin/backend -listen 127.0.0.1:9000
launch proxy env -u IDEMPROXY_PORT bin/idemproxy --listen ":${IDEMPROXY_PORT:-8080}" --admin "${admin#http://}" --store redis://127.0.0.1:6379/0 --backend http://127.0.0.1:9001
ready || { tail -n 20 "$state"/*.log >&2; exit 1; }
echo "up, natively (logs in $state): proxy $proxy, admin $admin, Toxiproxy http://127.0.0.1:8474"
