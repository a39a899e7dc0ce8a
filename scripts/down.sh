#!/usr/bin/env bash
# Ends what scripts/up.sh started, either way.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
state=${IDEMPROXY_STATE:-${TMPDIR:-/tmp}/idemproxy-up-$(id -u)}

for name in proxy backend toxiproxy redis; do # the proxy first: it drains
  pid=$(cat "$state/$name.pid" 2>/dev/null || true)
  if [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null; then
    for _ in $(seq 600); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  fi
done
rm -rf "$state"
if engine; then compose down -v --remove-orphans 2>/dev/null || true; fi
echo down
