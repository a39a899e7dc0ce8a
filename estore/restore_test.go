package estore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
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

// meanwhile does something when the first byte of a backup is read.
type meanwhile struct {
	*bytes.Reader
	do func()
}

func (m *meanwhile) Read(p []byte) (int, error) {
	if m.do != nil {
		m.do()
		m.do = nil
	}
	return m.Reader.Read(p)
}

// Where a backup cannot be put, the restore says so: a store that is not there would be
// missed when it is too late.
func TestRestoreToWhereNothingCanBe(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	stored(t, s, "k", 1000)
	var backup bytes.Buffer
	if _, err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	if err := errors.Join(
		os.Symlink(filepath.Join(place, "nothing"), filepath.Join(place, "link")),
		os.WriteFile(filepath.Join(place, "file"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"below a link to nothing": "link/store", "below a file": "file/store", "a file": "file",
		"a name that has no room for another one beside it": strings.Repeat("n", 250),
	} {
		if _, err := estore.Restore(bytes.NewReader(backup.Bytes()), filepath.Join(place, dir)); err == nil {
			t.Errorf("%s: it was restored", name)
		}
		if left, err := os.ReadDir(place); err != nil || len(left) != 2 {
			t.Errorf("%s: left are %v, %v", name, left, err)
		}
	}
}

// What comes into the way of a restore stays, and nothing of the backup is beside it: the
// directory is no store that has lost a part.
func TestRestoreIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	c := stored(t, s, "k", 1000)
	var backup bytes.Buffer
	m, err := s.Backup(t.Context(), &backup)
	if err != nil {
		t.Fatal(err)
	}
	last := m.Files[len(m.Files)-1].Name
	for name, there := range map[string]bool{"a new directory": false, "one that is there": true} {
		place := t.TempDir()
		dir := filepath.Join(place, "store")
		if there {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		r := &meanwhile{bytes.NewReader(backup.Bytes()), func() {
			if err := os.MkdirAll(filepath.Join(dir, last, "other"), 0o700); err != nil {
				t.Error(err)
			}
		}}
		if _, err := estore.Restore(r, dir); err == nil {
			t.Errorf("%s: it was restored over what is there", name)
		}
		for in, want := range map[string]string{place: "store", dir: last, filepath.Join(dir, last): "other"} {
			if left, err := os.ReadDir(in); err != nil || len(left) != 1 || left[0].Name() != want {
				t.Errorf("%s: %s has %v, %v; want %s alone", name, in, left, err, want)
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, last)); err != nil {
			t.Fatal(err)
		}
		if _, err := estore.Restore(bytes.NewReader(backup.Bytes()), dir); err != nil {
			t.Errorf("%s: once the way is free: %v", name, err)
		}
		if out := acquire(t, open(t, estore.Config{Dir: dir}), rivalOf(c)); out.Kind != idem.VerdictCompleted {
			t.Errorf("%s: restored is %v", name, out.Kind)
		}
	}
}

// A directory may be named with a slash at its end, as shells complete it.
func TestRestoreToANameWithASlash(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	c := stored(t, s, "k", 1000)
	var backup bytes.Buffer
	if _, err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new") + string(filepath.Separator)
	if _, err := estore.Restore(&backup, dir); err != nil {
		t.Fatal(err)
	}
	if out := acquire(t, open(t, estore.Config{Dir: dir}), rivalOf(c)); out.Kind != idem.VerdictCompleted {
		t.Errorf("restored: %v", out.Kind)
	}
}
