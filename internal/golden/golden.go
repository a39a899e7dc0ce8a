// Package golden compares what a test made with a file in the repository, and
// writes the file instead when UPDATE=1 is set (`make docs`).
package golden

import (
	"os"
	"testing"
)

// Check fails tb unless the file holds got.
func Check(tb testing.TB, file, got string) {
	tb.Helper()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // a document
			tb.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file) //nolint:gosec // a test's own file
	if err != nil || string(want) != got {
		tb.Errorf("%s is stale (%v): run `make docs` and read what changed", file, err)
	}
}
