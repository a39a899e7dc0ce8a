#!/usr/bin/env bash
# Ends what scripts/up.sh started, either way.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
state=${IDEMPROXY_STATE:-${TMPDIR:-/tmp}/idemproxy-up-$(id -u)}

# running PID: it has not ended. One that ended may be a zombie for seconds, where the system's init is slow to reap.
running() {
  kill -0 "$1" 2>/dev/null && [[ "$(ps -o stat= -p "$1" 2>/dev/null)" != Z* ]]
}

for name in proxy backend toxiproxy redis postgres; do # the proxy first: it drains
  pid=$(cat "$state/$name.pid" 2>/dev/null || true)
  signal=TERM
  [ "$name" != postgres ] || signal=INT # with TERM it would wait for whoever is connected
  if [ -n "$pid" ] && kill "-$signal" "$pid" 2>/dev/null; then
    for _ in $(seq 600); do
      running "$pid" || break
      sleep 0.1
    done
  fi
done
rm -rf "$state"
if engine; then COMPOSE_PROFILES=postgres compose down -v --remove-orphans 2>/dev/null || true; fi
echo down
