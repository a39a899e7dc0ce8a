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
	switch known, whole := hasCommit(ctx, ".", commit); {
	case known:
	case whole:
		t.Fatalf("this clone has its whole history, and no commit %s: write one into test/%s that it has", commit, previousFile)
	default:
		t.Skipf("this checkout has no commit %s: it is not a clone with its whole history", commit)
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
	run(dir, "go", "build", "-race", "-buildvcs=false", "-o", build, "./cmd/proxy")
	return build
}

// hasCommit says whether the checkout at dir has a commit, and whether it is a clone with its
// whole history, in which no commit may be missing.
func hasCommit(ctx context.Context, dir, commit string) (known, whole bool) {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	_, err := git("cat-file", "-e", commit+"^{commit}")
	shallow, notGit := git("rev-parse", "--is-shallow-repository")
	return err == nil, notGit == nil && shallow == "false"
}

// A commit that is not there is an error, unless the checkout is not meant to have it.
func TestHasCommit(t *testing.T) {
	t.Parallel()
	none, full, shallow := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "clone")
	git := func(args ...string) string {
		t.Helper()
		args = append([]string{"-C", full, "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"}, args...)
		out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet")
	git("commit", "--quiet", "--allow-empty", "--message", "first")
	first := git("rev-parse", "HEAD")
	git("commit", "--quiet", "--allow-empty", "--message", "second")
	git("clone", "--quiet", "--depth", "1", "file://"+full, shallow)
	for _, c := range []struct {
		what, dir, commit string
		known, whole      bool
	}{
		{"a clone that has it", full, first, true, true},
		{"a clone that should have it", full, strings.Repeat("1", 40), false, true},
		{"a shallow clone", shallow, first, false, false},
		{"no clone", none, first, false, false},
	} {
		if known, whole := hasCommit(t.Context(), c.dir, c.commit); known != c.known || whole != c.whole {
			t.Errorf("%s: known %v, whole %v, want %v, %v", c.what, known, whole, c.known, c.whole)
		}
	}
}
