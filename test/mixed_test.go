package test_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// previousFile has the commit of the build before this one: the oldest that this one must
// share a store with. When the layout of a store changes, so does docs/upgrade.md.
const previousFile = "testdata/previous"

// TestMixedVersions plays the histories of TestClientHistories while proxies of the build
// before this one and of this one take turns: beside each other on Redis and PostgreSQL,
// one after the other on the embedded store's directory, up and down, under load. Each is
// killed, not stopped, when the other takes its place.
func TestMixedVersions(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds another proxy")
	}
	previous := previousBuild(t)
	for _, kind := range []string{"embedded", "redis", "postgres"} {
		for _, policy := range []string{"hold", "settle"} {
			t.Run(kind+"/"+policy, func(t *testing.T) {
				t.Parallel()
				newEndRun(t, kind, policy, true, previous).play()
			})
		}
	}
}

// previousBuild builds the proxy of the commit in previousFile, from the repository's
// history.
func previousBuild(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(previousFile)
	if err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(string(text))
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := exec.CommandContext(ctx, "git", "cat-file", "-e", commit+"^{commit}").Run(); err != nil {
		t.Skipf("this checkout has no commit %s: it is not a clone with its history (%v)", commit, err)
	}
	build := filepath.Join(dir, "previous")
	run := func(where, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = where, append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	run("..", "git", "archive", "--output", filepath.Join(dir, "tree.tar"), commit)
	run(dir, "tar", "-xf", "tree.tar")
	run(dir, "go", "build", "-race", "-trimpath", "-buildvcs=false", "-o", build, "./cmd/proxy")
	return build
}
