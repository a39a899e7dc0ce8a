package estore_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// stored is a completed record of that name, with a response of its own.
func stored(tb testing.TB, s *estore.Store, name string, size int) idem.Claim {
	tb.Helper()
	c := claim(name)
	if _, err := s.Acquire(context.Background(), c); err != nil {
		tb.Error(err)
	}
	r := &idem.Response{Status: 201, Body: bytes.Repeat([]byte(name), size)}
	if err := s.Complete(context.Background(), c.Lease(), r); err != nil {
		tb.Error(err)
	}
	return c
}

// What was acknowledged before a backup began is in it, while requests go on; and is
// replayed from the restored store.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	var before []idem.Claim
	for i := range 200 {
		before = append(before, stored(t, s, fmt.Sprint("before-", i), 1+i*20))
	}
	held := claim("held")
	held.HoldOnLapse = true
	if _, err := s.Acquire(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var load sync.WaitGroup
	for g := range 4 {
		load.Go(func() {
			for i := 0; !stop.Load(); i++ {
				stored(t, s, fmt.Sprint("load-", g, "-", i), 50)
			}
		})
	}
	var backup bytes.Buffer
	m, err := s.Backup(t.Context(), &backup)
	if err == nil {
		_, err = s.Backup(t.Context(), new(bytes.Buffer)) // a second one leaves nothing in the way
	}
	stop.Store(true)
	load.Wait()
	if err != nil || len(m.Files) == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "backup.tmp")); !os.IsNotExist(err) {
		t.Errorf("the checkpoint is left: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	if _, err := estore.Restore(&backup, dir); err != nil {
		t.Fatal(err)
	}
	restored := open(t, estore.Config{Dir: dir})
	for i, c := range before {
		c.Owner = idem.NewOwner()
		out, err := restored.Acquire(t.Context(), c)
		if err != nil || out.Kind != idem.VerdictCompleted || len(out.Response.Body) != (1+i*20)*len(c.Key.Value()) {
			t.Fatalf("%s: %v, %v", c.Key.Value(), out.Kind, err)
		}
	}
	held.Owner = idem.NewOwner()
	if out, err := restored.Acquire(t.Context(), held); err != nil || out.Kind != idem.VerdictInProgress {
		t.Errorf("what was in progress: %v, %v", out.Kind, err)
	}
}

// What is not all there, or not what was written, is refused, and leaves nothing.
func TestDamagedBackups(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	stored(t, s, "k", 1000)
	var whole bytes.Buffer
	if _, err := s.Backup(t.Context(), &whole); err != nil {
		t.Fatal(err)
	}
	if _, err := estore.ReadBackup(bytes.NewReader(whole.Bytes()), nil); err != nil {
		t.Fatal(err)
	}
	changed := func(at int) []byte {
		b := bytes.Clone(whole.Bytes())
		b[at] ^= 1
		return b
	}
	text := bytes.Index(whole.Bytes(), []byte("kkkkkkkk"))
	if text < 0 {
		t.Fatal("the response is not in the backup")
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "another file": []byte("hello"), "half": whole.Bytes()[:whole.Len()/2], "a bit changed": changed(text),
		"without its list": whole.Bytes()[:bytes.LastIndex(whole.Bytes(), []byte("BACKUP"))],
	} {
		dir := filepath.Join(t.TempDir(), "store")
		if _, err := estore.Restore(bytes.NewReader(b), dir); !errors.Is(err, estore.ErrBackup) {
			t.Errorf("%s: %v, want ErrBackup", name, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("%s left %v", name, left)
		}
	}
	if _, err := estore.Restore(bytes.NewReader(whole.Bytes()), s.Dir()); !errors.Is(err, estore.ErrNotEmpty) {
		t.Errorf("over a store: %v", err)
	}
}

// What a backup's files cannot be given to is told, whatever is wrong with it: a restore
// that only seems to have succeeded is found when the backup is gone.
func TestABackupThatIsNotTakenWhole(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	stored(t, s, "k", 1000)
	var whole bytes.Buffer
	m, err := s.Backup(t.Context(), &whole)
	if err != nil {
		t.Fatal(err)
	}
	errFull := errors.New("no space")
	for _, f := range m.Files {
		if _, err := estore.ReadBackup(bytes.NewReader(whole.Bytes()), func(name string, content io.Reader) error {
			if name != f.Name {
				return nil
			}
			_, _ = io.CopyN(io.Discard, content, f.Size/2)
			return errFull
		}); !errors.Is(err, errFull) || errors.Is(err, estore.ErrBackup) {
			t.Errorf("%s was not taken: %v", f.Name, err)
		}
	}
}

// A backup comes from elsewhere: it gives files to nobody but of the store's directory, and
// says what else it does not have.
func TestBackupsThatNobodyMade(t *testing.T) {
	t.Parallel()
	list := func(format int, files string) string { return fmt.Sprintf(`{"format":%d,"files":[%s]}`, format, files) }
	sum := sha256.Sum256([]byte("x"))
	of := func(name string) string { return fmt.Sprintf(`{"name":%q,"size":1,"sha256":"%x"}`, name, sum) }
	empty := fmt.Sprintf(`{"name":"a","size":0,"sha256":"%x"}`, sha256.Sum256(nil))
	type file struct {
		name string
		kind byte
	}
	for name, c := range map[string]struct {
		files []file
		list  string
		ok    bool
	}{
		"as it should be":    {[]file{{"a", tar.TypeReg}}, list(1, of("a")), true},
		"a later format":     {[]file{{"a", tar.TypeReg}}, list(2, of("a")), false},
		"a file too many":    {[]file{{"a", tar.TypeReg}, {"b", tar.TypeReg}}, list(1, of("a")), false},
		"a file too few":     {[]file{{"a", tar.TypeReg}}, list(1, of("a")+","+of("b")), false},
		"a list that is not": {[]file{{"a", tar.TypeReg}}, "[]", false},
		"outside":            {[]file{{"../a", tar.TypeReg}}, list(1, of("../a")), false},
		"anywhere":           {[]file{{"/tmp/a", tar.TypeReg}}, list(1, of("/tmp/a")), false},
		"in a directory":     {[]file{{"d/a", tar.TypeReg}}, list(1, of("d/a")), false},
		"a link":             {[]file{{"a", tar.TypeSymlink}}, list(1, empty), false},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, f := range append(c.files, file{"BACKUP", tar.TypeReg}) {
			text := "x"
			switch {
			case f.name == "BACKUP":
				text = c.list
			case f.kind == tar.TypeSymlink:
				text = ""
			}
			if err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: f.kind, Linkname: "/etc/passwd", Mode: 0o600, Size: int64(len(text))}); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(w, text)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var given []string
		_, err := estore.ReadBackup(&b, func(name string, _ io.Reader) error {
			given = append(given, name)
			return nil
		})
		if c.ok != (err == nil) || err != nil && !errors.Is(err, estore.ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range given {
			if f != "a" && f != "b" {
				t.Errorf("%s: %q was given", name, f)
			}
		}
	}
}
