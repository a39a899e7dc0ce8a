#!/usr/bin/env bash
# The long proofs, about two hours of them on two cores. What they counted is written to
# docs/reliability-results.md, so that no figure there was typed by hand.
#
# Each part can be made longer or shorter, or skipped with 0:
#   HISTORIES FAULTS DAMAGE   times what `make test` does
#   POSTGRES_HISTORIES        likewise, with PostgreSQL
#   POSTGRES_FAULTS           likewise
#   CLIENT_HISTORIES          likewise, of whole processes
#   EPISODES                  of the simulation
#   FAILPOINTS                how many runs at named places; all of them, unless it is set
#   RECEIPTS                  ambiguous operations whose backend keeps receipts
#   KILLS                     kill -9 on each store
#   CRASHES                   power losses at each point: all kinds, or one at random
#   FAILOVERS                 planned and crashed ones of Redis, for each policy
#   POSTGRES_FAILOVERS        crashes of PostgreSQL
#   ROWS                      in a table of PostgreSQL
#   OVERLOAD SOAK FUZZ ZOO    how long, each
#   MODEL_ATTEMPTS            attempts in the model of receipts
# SEED repeats what was random. ONLY='Receipts|Soak' runs these parts, and leaves what the
# results say of the others; each part says which commit it ran at. Each run of a part is
# one more line of docs/reliability-runs.tsv.
set -euo pipefail
export LC_ALL=C # a decimal point is a point
cd "$(dirname "$0")/.."
. scripts/need.sh
need redis-server redis-server
need redis-cli redis-tools
need gcc gcc
need spin spin
needs "ls /usr/lib/postgresql/*/bin/initdb" postgresql # a backend's database, for receipts

out=docs/reliability-results.md
runs=docs/reliability-runs.tsv
logs=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null || true; rm -rf "$logs"' EXIT

# wanted NAME: this part is to run.
wanted() { [[ -z "${ONLY:-}" || "$1" =~ ^($ONLY)$ ]]; }

# part NAME COMMAND...: runs it, keeps its figures, and adds a line to the list of all runs.
part() {
  local name=$1 command=${*:2} verdict=passed log=$logs/$lane.log TIMEFORMAT='%R %U %S'
  shift
  wanted "$name" || return 0
  echo "== $name: $command"
  { time "$@" >"$log" 2>&1; } 2>"$logs/$lane.time" || verdict=FAILED
  local took user system
  read -r took user system < <(tail -1 "$logs/$lane.time")
  judge "${took%.*}" "$(awk "BEGIN { print int($user + $system) }")"
}

# judge SECONDS SECONDS_OF_CPU prints what a part came to, and adds it to the results.
judge() {
  echo "-- $name: $verdict"
  grep -E '^(---|    ---|        ---|ok|FAIL|PASS)' "$log" | tail -15 || true
  if [ $verdict = FAILED ]; then # what failed, and where all of it is: thousands of log lines stand between
    touch "$logs/failed"
    grep -E '_test\.go:[0-9]+: ' "$log" | grep -v 'figure: ' | head -40 || tail -20 "$log"
    local kept; kept=$(mktemp "${TMPDIR:-/tmp}/idemproxy-torture-XXXXXX.log")
    cp "$log" "$kept"
    echo "the whole log is $kept"
  fi
  {
    printf '\n## %s\n\n`%s`: %s, in %d s, on %s, commit %s.\n\n' "$name" "$command" "$verdict" "$1" \
      "$(date -u +%F)" "$commit"
    # "    file_test.go:12: figure: ..." under the name of its test
    awk '/^=== (NAME|CONT|RUN) / { name = $3 }
         /^ *--- (PASS|FAIL): / { name = $3 }
         /figure: / { sub(/.*figure: /, ""); print "- " (name ? name ": " : "") $0 }' "$log"
    grep -E '^fuzz: elapsed' "$log" | tail -1 || true
    [ -z "${REPORT:-}" ] || { echo; cat "$REPORT" 2>/dev/null; rm -f "$REPORT"; }
  } >"$logs/parts/$name"
  echo "$name" >>"$logs/$lane.order"
  printf '%s\t%s\t%s\t%s\t%d\t%d\n' "$(date -u +%F)" "$commit" "$name" "$verdict" "$1" "$2" >>"$runs"
}

long() { # a test of test/ with the variable of its length, and what else go test is to be told
  local name=$1 variable=$2 value=$3 pattern=$4 package=$5
  [ "$value" = 0 ] || part "$name" env "$variable=$value" go test -count=1 -timeout 3h -v -run "$pattern" "${@:6}" "$package"
}

commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain -uno)" ] || commit+=" and what was not committed"
mkdir "$logs/parts"

# Which statements were executed, for the rare states: of proxies, when they end by themselves, and of the stores' histories.
cover=$logs/cover
mkdir "$cover"
counts="-covermode=atomic -coverpkg=./idem,./internal/replays,./rstore,./estore,./pstore -coverprofile=$logs/histories.cover"

need javac default-jdk-headless # for a recipe of the documentation that `make test` leaves out where there is none
need node nodejs
need_node_pg
needs "node -e 'require(\"express\")'" node-express # likewise, for lines of the receipts' examples: some 240 packages

# Three lanes run side by side. The soak asks little of the machine for a long time; one lane waits
# for servers to fail and to come back; one computes.
soaks() {
  [ "${SOAK:-30m}" = 0 ] || part "Soak" env "SOAK=${SOAK:-30m}" go test -count=1 -timeout 3h -v -run '^TestSoak$' ./test
}

waits() {
  long "Failpoints" FAILPOINTS "${FAILPOINTS:-all}" '^TestFailpoints$' ./test
  GOCOVERDIR=$cover long "Receipts" RECEIPTS "${RECEIPTS:-10000}" '^TestReceipts$' ./test
  export REPORT=$logs/report # the table; each part's own
  GOCOVERDIR=$cover long "Faults" FAULTS "${FAULTS:-13}" '^TestFaults$' ./test -skip '^TestFaults$/^rigs$/^postgres'
  GOCOVERDIR=$cover long "Faults of PostgreSQL" FAULTS "${POSTGRES_FAULTS:-13}" '^TestFaults$/^rigs$/^postgres' ./test
  unset REPORT
  GOCOVERDIR=$cover long "Failovers" FAILOVERS "${FAILOVERS:-10}" '^TestFailovers$' ./test
  GOCOVERDIR=$cover long "Failovers of PostgreSQL" FAILOVERS "${POSTGRES_FAILOVERS:-100}" '^TestPostgresFailovers$' ./test
  long "Kill loops" KILLS "${KILLS:-200}" '^TestKillLoopKeepsEveryAnswer$' ./test
  [ "${ZOO:-30m}" = 0 ] || part "Zoo" go run ./test/zoo -budget 1m -for "${ZOO:-30m}"
}

computes() {
  part "Receipts in Express" env EXPRESS=1 go test -count=1 -timeout 10m -v -run '^TestExpress$' ./test/receipts
  part "Recipes for clients" env JAVA_RECIPE=1 go test -count=1 -timeout 10m -v -run '^TestClientRecipes' ./test
  GOCOVERDIR=$cover long "Histories of clients" HISTORIES "${CLIENT_HISTORIES:-10}" '^(TestClientHistories|TestMixedVersions)$' ./test
  GOFLAGS="${GOFLAGS:-} $counts" long "Histories" HISTORIES "${HISTORIES:-40}" . ./test/history -skip '^TestPostgres'
  long "Histories of PostgreSQL" HISTORIES "${POSTGRES_HISTORIES:-20}" '^TestPostgres' ./test/history
  long "Simulation" EPISODES "${EPISODES:-20000}" '^TestSimulation$' ./test/sim
  long "Messages" MESSAGES "${MESSAGES:-20000}" . ./test/messages
  long "Crash points" CRASHES "${CRASHES:-all}" '^TestP2EveryCrashPoint$' ./estore
  long "Damaged files" DAMAGE "${DAMAGE:-13}" '^TestDamagedFiles$' ./estore
  long "Rows of PostgreSQL" ROWS "${ROWS:-10000000}" '^TestManyRows$' ./pstore
  long "Joiners" JOINERS "${JOINERS:-10000}" '^TestManyJoinOneStream$' ./proxy
  part "Model" env "MODEL_ATTEMPTS=${MODEL_ATTEMPTS:-4}" go test -count=1 -timeout 1h -v ./test/model
  [ "${FUZZ:-60s}" != 0 ] || return 0
  local target dir
  while read -r target dir; do
    # Making an input smaller would take up to a minute by itself, and fail the run if the time ends meanwhile.
    part "Fuzzing $target" go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZ:-60s}" -fuzzminimizetime 20x "$dir"
  done < <(scripts/fuzz.sh list)
}

for lane in soaks waits computes; do
  ($lane; touch "$logs/$lane.whole") > >(sed -u "s/^/$lane: /") 2>&1 </dev/null &
done
wait
for lane in soaks waits computes; do
  [ -e "$logs/$lane.whole" ] || { echo "$lane broke off"; touch "$logs/failed"; }
done
lane=alone # what is measured in it is how the machine bears load
long "Overload" OVERLOAD "${OVERLOAD:-60s}" '^TestOverload$' ./test
# A whole run that never came by a state says nothing about it.
if [ -z "${ONLY:-}" ]; then
  go tool covdata textfmt -i="$cover" -o="$logs/processes.cover" || true # then its states are missing, and the part fails
  part "Rare states" go run ./test/rare "$logs"/*.cover
fi
scripts/torture-page.sh "$logs" "$runs" "$out"
echo "$out is written"
[ ! -e "$logs/failed" ]
