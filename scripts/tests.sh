# Sourced, after need.sh, by scripts/test.sh: runs Go's tests, and counts them.

repository=$PWD
# counted is where the results of each run are, as `go test -json` has them.
counted=$(mktemp -d)

# tests ARGS...: go test ARGS, with a line of go test for each package, then each test that failed or was skipped. Its exit code is
# that of go test.
tests() {
  local sum
  sum=$(cd "$repository" && tool gotestsum gotest.tools/gotestsum@v1.13.0) || return 1
  "$repository/$sum" --format standard-quiet --jsonfile "$(mktemp "$counted/XXXXXX")" -- "$@"
}

# ended RESULT: how many tests had that result, those within tests included.
ended() {
  cat "$counted"/* /dev/null 2>/dev/null | grep '"Test":' | grep -c "\"Action\":\"$1\"" || true
}

# tell prints the closing line, also when something failed. For trap ... EXIT: the exit code stays as it is.
tell() {
  local code=$? verdict=passed
  [ $code = 0 ] || verdict="FAILED (exit code $code)"
  echo "tests: $verdict: $(ended pass) passed, $(ended skip) skipped, $(ended fail) failed, in $((SECONDS / 60)) min $((SECONDS % 60)) s"
  rm -rf "$counted"
  exit $code
}
