#!/usr/bin/env bash
# The long proofs, about an hour of them. What they counted is written to
# docs/reliability-results.md, whole, so that no figure there was typed by hand.
#
# Each part can be made longer or shorter, or skipped with 0:
#   HISTORIES FAULTS DAMAGE   times what `make test` does
#   RECEIPTS                  ambiguous operations whose backend keeps receipts
#   KILLS                     kill -9 on each store
#   FAILOVERS                 planned and crashed ones of Redis, for each policy
#   OVERLOAD SOAK FUZZ        how long, each
#   MODEL_ATTEMPTS            attempts in the model of receipts
# SEED repeats what was random.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
need redis-server redis-server
need redis-cli redis-tools
need gcc gcc
need spin spin
needs "ls /usr/lib/postgresql/*/bin/initdb" postgresql # a backend's database, for receipts

out=docs/reliability-results.md
logs=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null || true; rm -rf "$logs"' EXIT
failed=0

# part NAME COMMAND...: runs it, keeps its figures.
part() {
  name=$1; shift
  command=$*
  echo "== $name: $command"
  local begun=$SECONDS
  verdict=passed
  "$@" >"$logs/log" 2>&1 || { verdict=FAILED; failed=1; }
  took=$((SECONDS - begun))
  judge
}

# judge prints what a part came to, and adds it to the results.
judge() {
  grep -E '^(---|    ---|        ---|ok|FAIL|PASS)' "$logs/log" | tail -15 || true
  if [ $verdict = FAILED ]; then # what failed, and where all of it is: thousands of log lines stand between
    grep -E '_test\.go:[0-9]+: ' "$logs/log" | grep -v 'figure: ' | head -40 || tail -20 "$logs/log"
    local kept; kept=$(mktemp "${TMPDIR:-/tmp}/idemproxy-torture-XXXXXX.log")
    cp "$logs/log" "$kept"
    echo "the whole log is $kept"
  fi
  {
    printf '\n## %s\n\n`%s`: %s, in %d s.\n\n' "$name" "$command" "$verdict" "$took"
    # "    file_test.go:12: figure: ..." under the name of its test
    awk '/^=== (NAME|CONT|RUN) / { name = $3 }
         /^ *--- (PASS|FAIL): / { name = $3 }
         /figure: / { sub(/.*figure: /, ""); print "- " name ": " $0 }' "$logs/log"
    grep -E '^fuzz: elapsed' "$logs/log" | tail -1 || true
    [ -z "${REPORT:-}" ] || { echo; cat "$REPORT" 2>/dev/null; rm -f "$REPORT"; }
  } >>"$logs/results"
}

long() { # a test of test/ with the variable of its length
  local name=$1 variable=$2 value=$3 pattern=$4 package=$5
  [ "$value" = 0 ] || part "$name" env "$variable=$value" go test -count=1 -timeout 3h -v -run "$pattern" "$package"
}

{
  echo "# Reliability, in figures"
  echo
  echo "Written by \`make torture\` on $(date -u +%F), commit $(git rev-parse --short HEAD), $(go version | cut -d' ' -f3,4)," \
    "$(nproc) cores, $(redis-server --version | grep -oE 'v=[0-9.]+'); do not edit. docs/reliability.md says what each part means."
} >"$logs/results"

# The soak asks little of the machine for a long time: the others run beside it.
soak=${SOAK:-30m}
if [ "$soak" != 0 ]; then
  echo "== Soak, beside all others: $soak"
  (env "SOAK=$soak" go test -count=1 -timeout 3h -v -run '^TestSoak$' ./test >"$logs/soak" 2>&1) &
  soaking=$!
fi

part "Model" env "MODEL_ATTEMPTS=${MODEL_ATTEMPTS:-4}" go test -count=1 -timeout 1h -v ./test/model
long "Histories" HISTORIES "${HISTORIES:-20}" . ./test/history
long "Receipts" RECEIPTS "${RECEIPTS:-10000}" '^TestReceipts$' ./test
if [ "${FAULTS:-13}" != 0 ]; then
  export REPORT=$logs/report
  long "Faults" FAULTS "${FAULTS:-13}" '^TestFaults$' ./test
  unset REPORT
fi
long "Failovers" FAILOVERS "${FAILOVERS:-10}" '^TestFailovers$' ./test
long "Kill loops" KILLS "${KILLS:-200}" '^TestKillLoopKeepsEveryAnswer$' ./test
long "Damaged files" DAMAGE "${DAMAGE:-13}" '^TestDamagedFiles$' ./estore
long "Overload" OVERLOAD "${OVERLOAD:-60s}" '^TestOverload$' ./test
if [ "${FUZZ:-60s}" != 0 ]; then
  while read -r target dir; do
    # Making an input smaller would take up to a minute by itself, and fail the run if the time ends meanwhile.
    part "Fuzzing $target" go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZ:-60s}" -fuzzminimizetime 20x "$dir"
  done < <(scripts/fuzz.sh list)
fi
if [ "$soak" != 0 ]; then
  name=Soak command="env SOAK=$soak go test -count=1 -timeout 3h -v -run ^TestSoak\$ ./test" verdict=passed
  wait "$soaking" || { verdict=FAILED; failed=1; }
  cp "$logs/soak" "$logs/log"
  took=$SECONDS # since the start of all
  judge
fi
cp "$logs/results" "$out"
echo "$out is written"
exit $failed
