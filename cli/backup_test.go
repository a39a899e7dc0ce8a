package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A proxy that serves is backed up, and one that serves from the restored directory, or from
// a copy of it in Redis, replays.
func TestBackupRestoreCopy(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	a, _ := run(t, b.URL(), func(c *config.Config) { c.Store = "embedded:" + t.TempDir() })
	_, first, _ := send(t, a.URL(), "k")
	at, dir := strings.TrimPrefix(a.AdminURL(), "http://"), t.TempDir()
	file, restored := filepath.Join(dir, "b.tar"), filepath.Join(dir, "restored")
	do := func(code int, want string, args ...string) {
		t.Helper()
		if got, out := command(t, args...); got != code || !strings.Contains(out, want) {
			t.Errorf("%v: %d %s, want %d %q", args, got, out, code, want)
		}
	}
	do(0, "the store as it was at", "backup", file, "--admin", at)
	do(1, "is there already", "backup", file, "--admin", at)
	if _, err := os.Stat(file + ".part"); !os.IsNotExist(err) {
		t.Errorf("a part is left: %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	do(0, "a retry of it executes again", "restore", file, restored)
	do(1, "there is something already", "restore", file, restored)
	do(0, "the store as it was at", "backup", filepath.Join(dir, "offline.tar"), "--offline", restored)
	do(1, "no such file", "backup", filepath.Join(dir, "none.tar"), "--offline", filepath.Join(dir, "none"))
	other := t.TempDir()
	do(1, "idemproxy: opening the store in "+other+": there is no store in this directory\n", "backup", filepath.Join(dir, "none.tar"), "--offline", other)
	if made, err := os.ReadDir(other); err != nil || len(made) > 0 {
		t.Errorf("a directory that is no store's has %v now, %v", made, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none.tar")); !os.IsNotExist(err) {
		t.Errorf("a backup of nothing: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cut.tar"), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	do(1, "not a whole and unchanged backup", "restore", filepath.Join(dir, "cut.tar"), filepath.Join(dir, "new"))

	redis := redistest.Start(t).URL()
	do(2, "--nobody-serves", "copy", "embedded:"+restored, redis)
	do(0, "1 records: 1 with a response", "copy", "embedded:"+restored, redis, "--nobody-serves")
	for _, store := range []string{"embedded:" + restored, redis} {
		again, _ := run(t, b.URL(), func(c *config.Config) { c.Store = store })
		if _, body, replayed := send(t, again.URL(), "k"); body != first || replayed != "true" {
			t.Errorf("%s: %q %q, want %q", store, body, replayed, first)
		}
		if strings.HasPrefix(store, "redis") {
			do(1, "only an embedded store", "backup", filepath.Join(dir, "r.tar"), "--admin", strings.TrimPrefix(again.AdminURL(), "http://"))
		}
	}
}
