#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

lint=$(tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0)
vuln=$(tool govulncheck golang.org/x/vuln/cmd/govulncheck@v1.9.0)
go vet ./...
go vet -tags failpoints ./internal/failpoint ./app ./cmd/proxy
go vet -tags storelog ./app ./cmd/proxy
"$lint" run
"$lint" fmt --diff
go mod tidy -diff
for module in $(find . -mindepth 2 -name go.mod -not -path './.git/*'); do
  (cd "$(dirname "$module")" && go vet ./... && go mod tidy -diff)
done
for script in scripts/*.sh; do bash -n "$script"; done
# The database of vulnerabilities is not within every machine's reach.
if out=$("$vuln" ./... 2>&1); then
  echo "$out" | tail -1
elif grep -qiE 'fetching vulnerabilities|dial tcp|no such host|connection refused|403|timeout' <<<"$out"; then
  echo "govulncheck: its database cannot be reached from here; not checked"
else
  echo "$out"
  exit 1
fi
echo "lint: clean"
