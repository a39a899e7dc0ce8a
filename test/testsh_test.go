package test_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The closing line of make test counts what passed, failed and was skipped, in all modules, and is printed
// after a failure, too. The exit code says that something failed.
func TestClosingLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, script, line string }{
		{"passed", "tests ./good && (cd more && tests ./...)", "tests: passed: 3 passed, 1 skipped, 0 failed, in 0 min "},
		{"failed", "tests ./good && tests ./bad; echo not reached", "tests: FAILED (exit code 1): 2 passed, 1 skipped, 1 failed, in 0 min "},
		{"does not build", "tests ./broken", "tests: FAILED (exit code 1): 0 passed, 0 skipped, 0 failed, in 0 min "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			const head = "package x_test\n\nimport \"testing\"\n\n"
			for file, text := range map[string]string{
				"go.mod":              "module example.test/x\n\ngo 1.26.0\n",
				"more/go.mod":         "module example.test/more\n\ngo 1.26.0\n",
				"good/good_test.go":   head + "func TestOne(t *testing.T) { t.Run(\"a\", func(*testing.T) {}) }\nfunc TestNot(t *testing.T) { t.Skip(\"no\") }\n",
				"bad/bad_test.go":     head + "func TestBad(t *testing.T) { t.Error(\"bad\") }\n",
				"more/more_test.go":   head + "func TestMore(*testing.T) {}\n",
				"broken/some_test.go": head + "func TestOne(t *testing.T) { undefined() }\n",
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
					t.Fatal(err)
				}
				writeText(t, filepath.Join(dir, file), text)
			}
			cmd := exec.Command("bash", "-c", "set -euo pipefail\n. scripts/need.sh\n. scripts/tests.sh\ntrap tell EXIT\ncd '"+dir+"'\n"+c.script)
			cmd.Dir, cmd.Env = "..", append(os.Environ(), "GOFLAGS=", "SECONDS=0")
			out, err := cmd.CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if (err == nil) != (c.name == "passed") || !strings.HasPrefix(lines[len(lines)-1], c.line) || strings.Contains(string(out), "not reached") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
