#!/usr/bin/env bash
# The long proofs, about an hour of them. What they counted is written to
# docs/reliability-results.md, whole, so that no figure there was typed by hand.
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
# results say of the others; each part says which commit it ran at.
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

# wanted NAME: this part is to run.
wanted() { [[ -z "${ONLY:-}" || "$1" =~ ^($ONLY)$ ]]; }

# part NAME COMMAND...: runs it, keeps its figures.
part() {
  name=$1; shift
  wanted "$name" || return 0
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
    printf '\n## %s\n\n`%s`: %s, in %d s, on %s, commit %s.\n\n' "$name" "$command" "$verdict" "$took" \
      "$(date -u +%F)" "$commit"
    # "    file_test.go:12: figure: ..." under the name of its test
    awk '/^=== (NAME|CONT|RUN) / { name = $3 }
         /^ *--- (PASS|FAIL): / { name = $3 }
         /figure: / { sub(/.*figure: /, ""); print "- " (name ? name ": " : "") $0 }' "$logs/log"
    grep -E '^fuzz: elapsed' "$logs/log" | tail -1 || true
    [ -z "${REPORT:-}" ] || { echo; cat "$REPORT" 2>/dev/null; rm -f "$REPORT"; }
  } >"$logs/parts/$name"
  order+=("$name")
}

long() { # a test of test/ with the variable of its length, and what else go test is to be told
  local name=$1 variable=$2 value=$3 pattern=$4 package=$5
  [ "$value" = 0 ] || part "$name" env "$variable=$value" go test -count=1 -timeout 3h -v -run "$pattern" "${@:6}" "$package"
}

commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain -uno)" ] || commit+=" and what was not committed"
order=()
mkdir "$logs/parts"
{
  echo "# Reliability, in figures"
  echo
  echo "Written by \`make torture\`, lately with $(go version | cut -d' ' -f3,4), $(nproc) cores," \
    "Redis $(redis-server --version | grep -oE 'v=[0-9.]+'); do not edit. docs/reliability.md says what each part means."
} >"$logs/results"

# Which statements were executed, for the rare states: of proxies, when they end by themselves, and of the stores' histories.
cover=$logs/cover
mkdir "$cover"
counts="-covermode=atomic -coverpkg=./idem,./internal/replays,./rstore,./estore,./pstore -coverprofile=$logs/histories.cover"

# The soak asks little of the machine for a long time: the others run beside it.
soak=${SOAK:-30m}
wanted Soak || soak=0
if [ "$soak" != 0 ]; then
  echo "== Soak, beside all others: $soak"
  (env "SOAK=$soak" go test -count=1 -timeout 3h -v -run '^TestSoak$' ./test >"$logs/soak" 2>&1) &
  soaking=$!
fi

need javac default-jdk-headless # for a recipe of the documentation that `make test` leaves out where there is none
need node nodejs
need_node_pg
needs "node -e 'require(\"express\")'" node-express # likewise, for lines of the receipts' examples: some 240 packages
part "Receipts in Express" env EXPRESS=1 go test -count=1 -timeout 10m -v -run '^TestExpress$' ./test/receipts
part "Recipes for clients" env JAVA_RECIPE=1 go test -count=1 -timeout 10m -v -run '^TestClientRecipes' ./test

part "Model" env "MODEL_ATTEMPTS=${MODEL_ATTEMPTS:-4}" go test -count=1 -timeout 1h -v ./test/model
GOFLAGS="${GOFLAGS:-} $counts" long "Histories" HISTORIES "${HISTORIES:-40}" . ./test/history -skip '^TestPostgres'
long "Histories of PostgreSQL" HISTORIES "${POSTGRES_HISTORIES:-20}" '^TestPostgres' ./test/history
GOCOVERDIR=$cover long "Histories of clients" HISTORIES "${CLIENT_HISTORIES:-10}" '^(TestClientHistories|TestMixedVersions)$' ./test
long "Simulation" EPISODES "${EPISODES:-20000}" '^TestSimulation$' ./test/sim
long "Failpoints" FAILPOINTS "${FAILPOINTS:-all}" '^TestFailpoints$' ./test
GOCOVERDIR=$cover long "Receipts" RECEIPTS "${RECEIPTS:-10000}" '^TestReceipts$' ./test
export REPORT=$logs/report # the table; each part's own
GOCOVERDIR=$cover long "Faults" FAULTS "${FAULTS:-13}" '^TestFaults$' ./test -skip '^TestFaults$/^rigs$/^postgres'
GOCOVERDIR=$cover long "Faults of PostgreSQL" FAULTS "${POSTGRES_FAULTS:-13}" '^TestFaults$/^rigs$/^postgres' ./test
unset REPORT
GOCOVERDIR=$cover long "Failovers" FAILOVERS "${FAILOVERS:-10}" '^TestFailovers$' ./test
GOCOVERDIR=$cover long "Failovers of PostgreSQL" FAILOVERS "${POSTGRES_FAILOVERS:-100}" '^TestPostgresFailovers$' ./test
long "Rows of PostgreSQL" ROWS "${ROWS:-10000000}" '^TestManyRows$' ./pstore
long "Kill loops" KILLS "${KILLS:-200}" '^TestKillLoopKeepsEveryAnswer$' ./test
long "Crash points" CRASHES "${CRASHES:-all}" '^TestP2EveryCrashPoint$' ./estore
long "Damaged files" DAMAGE "${DAMAGE:-13}" '^TestDamagedFiles$' ./estore
long "Messages" MESSAGES "${MESSAGES:-20000}" . ./test/messages
long "Joiners" JOINERS "${JOINERS:-10000}" '^TestManyJoinOneStream$' ./proxy
[ "${ZOO:-30m}" = 0 ] || part "Zoo" go run ./test/zoo -budget 1m -for "${ZOO:-30m}"
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
# A whole run that never came by a state says nothing about it.
if [ -z "${ONLY:-}" ]; then
  name="Rare states" command="go run ./test/rare" verdict=passed took=0
  { go tool covdata textfmt -i="$cover" -o="$logs/processes.cover" && go run ./test/rare "$logs"/*.cover; } >"$logs/log" 2>&1 ||
    { verdict=FAILED; failed=1; }
  judge
fi
# The page has what ran now, and with ONLY what it said of the other parts.
if [ -n "${ONLY:-}" ]; then
  while read -r name; do
    [ -e "$logs/parts/$name" ] && continue
    awk -v name="$name" '/^## / { in_it = $0 == "## " name } in_it' "$out" |
      sed -e '1i\\' -e '${/^$/d}' >"$logs/parts/$name"
  done < <(sed -n 's/^## //p' "$out")
  mapfile -t order < <({ sed -n 's/^## //p' "$out"; printf '%s\n' "${order[@]}"; } | awk '!seen[$0]++')
fi
for name in "${order[@]}"; do cat "$logs/parts/$name"; done >>"$logs/results"
cp "$logs/results" "$out"
echo "$out is written"
exit $failed
