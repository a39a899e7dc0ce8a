#!/bin/sh
# Usage: retry.sh URL KEY BODY
# One key for the operation, the same on each try. Six tries.
tmp=$(mktemp -d) && trap 'rm -r "$tmp"' EXIT
for wait in 0.2 0.4 0.8 1.6 3.2 last; do
  : >"$tmp/head" && : >"$tmp/body"
  status=$(curl -s -D "$tmp/head" -o "$tmp/body" -w '%{http_code}' --max-time 30 "$1" \
    -H "Idempotency-Key: $2" -H 'Content-Type: application/json' -d "$3") || status=000
  again=no
  if [ "$status" = 000 ]; then
    again=yes # no answer: it may have been executed, which the key takes care of
  elif grep -qi '^idempotent-replayed: true' "$tmp/head"; then
    again=no # a stored answer is the outcome, whatever its status
  elif grep -qi '^content-type: application/problem+json' "$tmp/head" && grep -q '"retryable":' "$tmp/body"; then
    grep -q '"retryable": *true' "$tmp/body" && again=yes # the proxy knows
  else
    case $status in 408 | 425 | 429 | 502 | 503 | 504) again=yes ;; esac
  fi
  if [ $again = no ] || [ $wait = last ]; then break; fi
  after=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9][0-9]*\).*/\1/p' "$tmp/head")
  sleep "${after:-$wait}"
done
echo "$status $(cat "$tmp/body")"
