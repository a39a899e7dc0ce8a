#!/usr/bin/env bash
# Writes the page of what `make torture` counted: scripts/torture-page.sh LOGS RUNS PAGE.
# LOGS/parts has a file for each part that ran now; of the other parts the page keeps what it says.
# RUNS is the list of all runs.
set -euo pipefail
cd "$(dirname "$0")/.."
logs=$1 runs=$2 page=$3
mkdir -p "$logs/parts"
touch "$page"

# The parts in the order of the page; those that it does not have yet come last.
order=$({ sed -n 's/^## //p' "$page" | grep -v '^Summary$'; ls -rt "$logs/parts"; } | awk '!seen[$0]++')
while read -r name; do
  [ -e "$logs/parts/$name" ] && continue
  awk -v name="$name" '/^## / { in_it = $0 == "## " name } in_it' "$page" |
    sed -e '1i\\' -e '${/^$/d}' >"$logs/parts/$name"
done <<<"$order"

summary() {
  printf '\n## Summary\n\n'
  awk -F'\t' '!/^#/ { n++; s += $5; if ($6 == "-") rest += $5; else cpu += $6; if ($4 == "FAILED") failed++ }
    END { printf "[The list of all runs](reliability-runs.tsv) has %d runs of parts, which took %.1f hours in all", n, s / 3600
          printf " (parts run side by side). %d of them failed", failed
          printf ". %.1f hours of CPU time were measured; of %.1f hours it was not.\n\n", cpu / 3600, rest / 3600 }' "$runs"
  printf 'Of each part, its last run. The sections below have the figures of the last one that was not broken off.\n\n'
  printf '| part | verdict | took | on | commit |\n| --- | --- | --- | --- | --- |\n'
  awk -F'\t' '!/^#/ { if (!($3 in last)) order[++n] = $3
                      last[$3] = "| " $3 " | " $4 " | " $5 " s | " $1 " | " $2 " |" }
    END { for (i = 1; i <= n; i++) print last[order[i]] }' "$runs"
}

{
  echo "# Reliability, in figures"
  echo
  echo "Written by \`make torture\`, lately with $(go version | cut -d' ' -f3,4), $(nproc) cores," \
    "Redis $(redis-server --version | grep -oE 'v=[0-9.]+'); do not edit. docs/reliability.md says what each part means."
  summary
  while read -r name; do cat "$logs/parts/$name"; done <<<"$order"
} >"$logs/results"
cp "$logs/results" "$page"
