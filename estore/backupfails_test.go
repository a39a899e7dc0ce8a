package estore_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
)

var errDisk = errors.New("the disk has a fault")

// faultyDisk fails in one way, where a backup's files are concerned.
type faultyDisk struct {
	vfs.FS
	fault atomic.Pointer[string]
}

func (d *faultyDisk) fails(op, name string) bool {
	fault := d.fault.Load()
	return fault != nil && *fault == op && strings.Contains(name, "backup.tmp")
}

func (d *faultyDisk) List(dir string) ([]string, error) {
	if d.fails("list", dir) {
		return nil, errDisk
	}
	return d.FS.List(dir)
}

func (d *faultyDisk) MkdirAll(dir string, perm os.FileMode) error {
	if d.fails("make", dir) {
		return errDisk
	}
	return d.FS.MkdirAll(dir, perm)
}

func (d *faultyDisk) RemoveAll(name string) error {
	if d.fails("remove", name) {
		return errDisk
	}
	return d.FS.RemoveAll(name)
}

func (d *faultyDisk) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if d.fails("open", name) {
		return nil, errDisk
	}
	f, err := d.FS.Open(name, o...)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d, name}, nil
}

type faultyFile struct {
	vfs.File
	disk *faultyDisk
	name string
}

func (f *faultyFile) Stat() (vfs.FileInfo, error) {
	if f.disk.fails("stat", f.name) {
		return nil, errDisk
	}
	return f.File.Stat()
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if f.disk.fails("read", f.name) {
		return 0, errDisk
	}
	return f.File.Read(p)
}

// A backup that the disk does not give whole is none, and says why: nobody keeps it in the belief
// that it is one. The next one is whole.
func TestABackupThatTheDiskDoesNotGive(t *testing.T) {
	t.Parallel()
	disk := &faultyDisk{FS: vfs.NewMem()}
	s := open(t, estore.Config{Dir: "data"}.OnFS(disk))
	stored(t, s, "k", 1000)
	for _, fault := range []string{"list", "make", "remove", "open", "stat", "read"} {
		disk.fault.Store(&fault)
		if m, err := s.Backup(t.Context(), new(bytes.Buffer)); !errors.Is(err, errDisk) || len(m.Files) > 0 {
			t.Errorf("with the fault %q: %d files, %v", fault, len(m.Files), err)
		}
		disk.fault.Store(nil)
		var whole bytes.Buffer
		if _, err := s.Backup(t.Context(), &whole); err != nil {
			t.Fatalf("after the fault %q: %v", fault, err)
		}
		if _, err := estore.ReadBackup(&whole, nil); err != nil {
			t.Errorf("after the fault %q: %v", fault, err)
		}
	}
}

// short takes or gives so many bytes, and then fails.
type short struct {
	all  bytes.Buffer
	left int
}

var errShort = errors.New("that is all there is")

func (s *short) Write(p []byte) (int, error) {
	n, err := s.all.Write(p[:min(s.left, len(p))])
	if s.left -= n; err == nil && n < len(p) {
		err = errShort
	}
	return n, err
}

func (s *short) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errShort
	}
	n, err := s.all.Read(p[:min(s.left, len(p))])
	s.left -= n
	return n, err
}

// Wherever a backup breaks off, who writes it hears of it, and who reads it: as one whose end is
// missing, or with the reader's own error.
func TestABackupBreaksOffAnywhere(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: "data"}.OnFS(vfs.NewMem()))
	stored(t, s, "k", 1000)
	var whole bytes.Buffer
	if _, err := s.Backup(t.Context(), &whole); err != nil {
		t.Fatal(err)
	}
	end := bytes.LastIndex(whole.Bytes(), []byte("}")) // of its list; padding follows
	for at := 0; at <= end; at += 256 {
		if _, err := s.Backup(t.Context(), &short{left: at}); !errors.Is(err, errShort) {
			t.Errorf("writing breaks off after %d bytes: %v", at, err)
		}
		if _, err := estore.ReadBackup(bytes.NewReader(whole.Bytes()[:at]), nil); !errors.Is(err, estore.ErrBackup) {
			t.Errorf("it ends after %d bytes: %v", at, err)
		}
		broken := &short{left: at}
		_, _ = broken.all.Write(whole.Bytes())
		if _, err := estore.ReadBackup(broken, nil); !errors.Is(err, estore.ErrBackup) || !errors.Is(err, errShort) {
			t.Errorf("reading breaks off after %d bytes: %v", at, err)
		}
	}
}
