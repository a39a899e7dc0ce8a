#!/usr/bin/env bash
# Runs each fuzz target for a while: scripts/fuzz.sh [TIME]; or lists them with
# their directories: scripts/fuzz.sh list
#
# scripts/fuzz.sh keep [TIME] does the first, and then keeps in testdata/fuzz what covers
# more than is covered without it: the corpora, which each go test runs. Commit them. That is
# how they are made again, too, after what is in the way was deleted: see test/corpora/doc.go.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = keep ]; then
  exec go run ./test/corpora -for "${2:-90s}"
fi
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
