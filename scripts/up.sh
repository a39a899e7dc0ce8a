#!/usr/bin/env bash
# The customer's stage: Redis 6379, Toxiproxy 8474 with backend_pipe on 9001,
# demo backend 9000, proxy 8080 (forwarding through backend_pipe), admin
# 127.0.0.1:8081. In Docker where an engine answers, natively otherwise or with
# NATIVE=1. With STORE=postgres the records are in PostgreSQL, on 5432, and not in Redis.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
state=${IDEMPROXY_STATE:-${TMPDIR:-/tmp}/idemproxy-up-$(id -u)}

# Where it listens; compose reads the same variables.
admin=http://127.0.0.1:${ADMIN_PORT:-8081} proxy=http://127.0.0.1:${IDEMPROXY_PORT:-8080} pipe=http://127.0.0.1:${TOXIPROXY_PORT:-8474}

case ${STORE:-redis} in
  redis | postgres) ;;
  *) echo "up.sh: STORE is $STORE; want redis or postgres" >&2; exit 1 ;;
esac

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

ready() { # ready [PID]: until the proxy and its store are ready, or the process PID has ended
  for _ in $(seq 300); do
    [ -z "${1:-}" ] || kill -0 "$1" 2>/dev/null || break
    curl -fsS -o /dev/null "$admin/readyz?require=store" 2>/dev/null && return 0
    sleep 0.1
  done
  echo "the proxy does not become ready" >&2
  curl -sS "$admin/readyz?require=store" >&2 || true
  return 1
}

if [ "${NATIVE:-}" != 1 ] && engine; then
  scripts/images.sh
  token
  if [ "${STORE:-redis}" = postgres ]; then
    export STORE_URL='postgres://idemproxy@postgres:5432/idemproxy?sslmode=disable' COMPOSE_PROFILES=postgres
  fi
  compose up -d
  ready
  echo "up, in Docker, with ${STORE:-redis}: proxy $proxy, admin $admin, Toxiproxy $pipe"
  echo "the admin page asks for the token in $ADMIN_TOKEN_FILE; from a shell:"
  echo "  bin/idemproxy list --admin ${admin#http://} --admin-token-file $ADMIN_TOKEN_FILE"
  exit 0
fi

if [ "${STORE:-redis}" = postgres ]; then
  needs "ls /usr/lib/postgresql/*/bin/initdb" postgresql
else
  need redis-server redis-server
fi
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
# launch_postgres: PostgreSQL does not run as root, but as the user of its package.
launch_postgres() {
  local bin as=() data=$state/postgres
  bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")
  [ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --init-groups)
  if [ ! -s "$data/PG_VERSION" ]; then
    rm -rf "$data"
    mkdir -p -m 700 "$data"
    [ "$(id -u)" != 0 ] || chown postgres: "$data"
    (cd "$data" && "${as[@]}" "$bin/initdb" -D "$data" -U idemproxy -A trust -E UTF8 --locale=C) >"$state/initdb.log" 2>&1 ||
      { cat "$state/initdb.log" >&2; return 1; }
  fi
  (cd "$data" && launch postgres "${as[@]}" "$bin/postgres" -D "$data" -p "$postgres_port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories=)
}
postgres_port=${POSTGRES_PORT:-5432}
if [ "${STORE:-redis}" = postgres ]; then
  launch_postgres
  store=postgres://idemproxy@127.0.0.1:$postgres_port/postgres?sslmode=disable
else
  launch redis redis-server --port 6379 --bind 127.0.0.1 --dir "$state" --appendonly yes --appendfsync always --save ''
  store=redis://127.0.0.1:6379/0
fi
launch toxiproxy "$toxiproxy" -host 127.0.0.1 -port 8474 -config deploy/toxiproxy.native.json
launch backend bin/backend -listen 127.0.0.1:9000
# The proxy refuses settings that it does not know; these two are of this script.
launch proxy env -u IDEMPROXY_PORT -u IDEMPROXY_STATE bin/idemproxy --listen ":${IDEMPROXY_PORT:-8080}" --admin "${admin#http://}" --store "$store" --backend http://127.0.0.1:9001
# What answers on the port may be another process: ours must be alive, too.
{ ready "$(cat "$state/proxy.pid")" && kill -0 "$(cat "$state/proxy.pid")"; } || { tail -n 20 "$state"/*.log >&2; exit 1; }
echo "up, natively, with ${STORE:-redis} (logs in $state): proxy $proxy, admin $admin, Toxiproxy http://127.0.0.1:8474"
