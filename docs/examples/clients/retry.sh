#!/bin/sh
# Usage: retry.sh URL KEY BODY
# One key for the operation, the same on each try.
for wait in 0.2 0.4 0.8 1.6 3.2 0; do
  status=$(curl -s -o answer -w '%{http_code}' --max-time 10 "$1" -H "Idempotency-Key: $2" -H 'Content-Type: application/json' -d "$3")
  case $status in
    000 | 409 | 425 | 429 | 500 | 502 | 503 | 504) sleep "$wait" ;; # no answer, or one that says: not yet
    *) break ;;
  esac
done
echo "$status $(cat answer)"
rm -f answer
