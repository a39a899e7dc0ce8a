#!/usr/bin/env bash
# Runs each fuzz target for a while: scripts/fuzz.sh [TIME]; or lists them with
# their directories: scripts/fuzz.sh list
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rlE --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
  grep -oE '^func Fuzz\w+' "$file" | while read -r _ target; do
    if [ "${1:-}" = list ]; then
      echo "$target $(dirname "$file")"
      continue
    fi
    echo "== $target in $(dirname "$file")"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-30s}" -fuzzminimizetime 20x "$(dirname "$file")" </dev/null
  done
done
