package estore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// A directory that is there and empty is restored into and stays the same one: it may be a
// volume. One that has a part of a backup is no store, and nothing else is restored into it.
func TestRestoreIntoWhatIsThere(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	c := stored(t, s, "k", 1000)
	var backup bytes.Buffer
	if _, err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	before, err := os.Stat(dir)
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "lost+found"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := estore.Restore(bytes.NewReader(backup.Bytes()[:backup.Len()/2]), dir); !errors.Is(err, estore.ErrBackup) {
		t.Errorf("half of a backup: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("half of a backup left %v", left)
	}
	part := filepath.Join(dir, "restore.tmp") // as a restore that was killed leaves it
	if err := os.Mkdir(part, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := estore.Restore(bytes.NewReader(backup.Bytes()), dir); !errors.Is(err, estore.ErrRestoring) {
		t.Errorf("into a part of a backup: %v, want %v", err, estore.ErrRestoring)
	}
	if _, err := estore.New(estore.Config{Dir: dir}); !errors.Is(err, estore.ErrRestoring) {
		t.Errorf("a part of a backup is opened: %v", err)
	}
	if err := os.Remove(part); err != nil {
		t.Fatal(err)
	}
	if _, err := estore.Restore(bytes.NewReader(backup.Bytes()), dir); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(dir); err != nil || !os.SameFile(before, after) {
		t.Errorf("the directory was replaced: %v", err)
	}
	c.Owner = idem.NewOwner()
	if out, err := open(t, estore.Config{Dir: dir}).Acquire(t.Context(), c); err != nil || out.Kind != idem.VerdictCompleted {
		t.Errorf("restored: %v, %v", out.Kind, err)
	}
}
