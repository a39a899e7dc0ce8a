package pstore_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The tests of a lost connection find a cache that outlives it, sooner than the histories that
// are longer than the time for which a purge by others may go unheard. Each bug
// is planted into a copy of a source, of which the go command builds the tests.
func TestPlantedBugsOfTheCache(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the tests twice")
	}
	for name, bug := range map[string]struct{ file, old, bad, found string }{
		"it answers when the connection is lost": {
			"listen.go", "err := s.session()\n\t\ts.cache.deaf()\n", "err := s.session()\n", "TestNoCacheOnceTheConnectionIsLost",
		},
		"it keeps what was asked for in between": {
			"listen.go", "this connection listened.\n\t\t\t\ts.cache.Flush()\n", "this connection listened.\n", "TestAnswersOfDeafTimesAreNotKept",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := withBug(t, bug.file, bug.old, bug.bad, bug.found)
			if err == nil {
				t.Fatalf("%s passes all the same", bug.found)
			}
			if !strings.Contains(out, "--- FAIL: "+bug.found) {
				t.Fatalf("%s does not run: %v\n%s", bug.found, err, out)
			}
		})
	}
}

// withBug runs a test of this package with a bug in one of its sources.
func withBug(t *testing.T, file, old, bad, test string) (out string, err error) {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), old); n != 1 {
		t.Fatalf("the bug is planted %d times", n)
	}
	broken, overlay := filepath.Join(t.TempDir(), file), filepath.Join(t.TempDir(), "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: broken}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{broken: []byte(strings.Replace(string(source), old, bad, 1)), overlay: replace} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-overlay", overlay, "-run", "^"+test+"$", ".")
	said, err := cmd.CombinedOutput()
	return string(said), err
}
