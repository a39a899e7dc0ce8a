package estore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// Of backups there is one at a time; one that is not taken whole, or is not wanted any more,
// fails, and leaves the next one nothing in its way.
func TestBackupsThatAreNotMade(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir()})
	stored(t, s, "k", 1000)
	r, w := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := s.Backup(context.Background(), w)
		first <- err
	}()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), io.Discard); !errors.Is(err, estore.ErrBackupRuns) {
		t.Errorf("a second at a time: %v", err)
	}
	errGone := errors.New("the client is gone")
	_ = r.CloseWithError(errGone)
	if err := <-first; !errors.Is(err, errGone) {
		t.Errorf("one that nobody takes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Backup(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("one that nobody wants: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "backup.tmp")); !os.IsNotExist(err) {
		t.Errorf("a checkpoint is left: %v", err)
	}
	var whole bytes.Buffer
	if _, err := s.Backup(t.Context(), &whole); err != nil {
		t.Fatal(err)
	}
	if _, err := estore.ReadBackup(&whole, nil); err != nil {
		t.Errorf("the next: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), io.Discard); !errors.Is(err, idem.ErrClosed) {
		t.Errorf("of a closed store: %v", err)
	}
}

// A store that must be there is not made: a name that is wrong leaves nothing behind.
func TestOnlyAnExistingStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(dir, "there")
	if err := open(t, estore.Config{Dir: there}).Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir  string
		want error
	}{
		"nothing": {filepath.Join(dir, "none"), estore.ErrNone}, "an empty directory": {empty, estore.ErrNone},
		"a file": {file, estore.ErrNone}, "below a file": {filepath.Join(file, "x"), estore.ErrNone}, "a store": {there, nil},
	} {
		s, err := estore.New(estore.Config{Dir: c.dir, Existing: true})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("a directory was made: %v", err)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) != 0 {
		t.Errorf("the empty directory has %v, %v", left, err)
	}
}

// An operator who lists keys stops when there is enough, when the time is over, and when the
// disk hangs; and hears of what cannot be read, rather than not see it.
func TestListsThatStop(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	for _, name := range []string{"a", "b", "c"} {
		stored(t, s, name, 10)
		acquire(t, s, claim("running "+name))
	}
	seen := 0
	for stopAt := 1; stopAt <= 6; stopAt++ {
		seen = 0
		if err := s.List(t.Context(), func(*idem.Record) bool { seen++; return seen < stopAt }); err != nil || seen != stopAt {
			t.Errorf("%d are listed, of %d that were wanted, %v", seen, stopAt, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen = 0
	if err := s.List(ctx, func(*idem.Record) bool { seen++; cancel(); return true }); !errors.Is(err, context.Canceled) || seen != 1 {
		t.Errorf("%d are listed to nobody, %v", seen, err)
	}
	back := hang(t, s, disk)
	defer back()
	_, err := s.Acquire(t.Context(), claim("doubtful"))
	wantDoubt(t, "an acquire", err)
	wantRefused(t, "a list", s.List(t.Context(), func(*idem.Record) bool { return true }))
	wantRefused(t, "an entry", s.Enter(t.Context(), "name", "text", 0))
	wantRefused(t, "the end of an entry", s.Strike(t.Context(), "name"))
}

// A record that cannot be read is none that is not there.
func TestRecordsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		value []byte
		want  error
	}{
		"of a later layout": {[]byte{99, 1, 2, 3}, idem.ErrVersion},
		"cut short":         {[]byte{2, 2, 0, 0}, idem.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			claim := claim("k")
			d := engine(t, fs)
			d.clock(time.Now())
			d.settled(claim, c.value, time.Now().Add(time.Hour))
			d.close()
			s := open(t, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(fs))
			ctx, id := t.Context(), claim.Key.ID()
			for what, ask := range map[string]func() error{
				"get":      func() error { _, err := s.Get(ctx, claim.Key); return err },
				"list":     func() error { return s.List(ctx, func(*idem.Record) bool { return true }) },
				"find":     func() error { _, err := s.Find(ctx, id[:6]); return err },
				"acquire":  func() error { _, err := s.Acquire(ctx, claim); return err },
				"complete": func() error { return s.Complete(ctx, claim.Lease(), &idem.Response{Status: 200}) },
				"resolve":  func() error { return s.Resolve(ctx, claim.Key, idem.Owner{}, nil) },
				"take":     func() error { return s.Take(ctx, claim.Key, claim.Owner) },
			} {
				if err := ask(); !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", what, err, c.want)
				}
			}
			if err := s.Purge(ctx, claim.Key); err != nil {
				t.Errorf("purge: %v", err)
			}
			acquire(t, s, claim)
		})
	}
}

// While a record that cannot be read is on its way out, who asks for its key hears that it cannot
// be read, and nobody else waits.
func TestWhatCannotBeReadIsInNobodysWay(t *testing.T) {
	t.Parallel()
	disk := &hangingDisk{FS: vfs.NewMem()}
	keys := neighbours(2)
	unreadable, running := keys[0], keys[1]
	d := engine(t, disk)
	d.clock(time.Now())
	d.settled(unreadable, []byte{99, 1, 2, 3}, time.Now().Add(time.Hour))
	d.close()
	s := open(t, estore.Config{Dir: "data", Timeout: time.Hour, SweepEvery: time.Hour}.OnFS(disk))
	acquire(t, s, running)
	_, back := disk.syncs.shut()
	defer back()
	purged := make(chan error, 1)
	go func() { purged <- s.Purge(context.Background(), unreadable.Key) }()
	eventuallySettling(t, s, unreadable.Key)
	if _, err := s.Acquire(t.Context(), unreadable); !errors.Is(err, idem.ErrVersion) {
		t.Errorf("acquire: %v, want %v", err, idem.ErrVersion)
	}
	if err := renew(t, s, unreadable); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("a renewal: %v", err)
	}
	if err := renew(t, s, running); err != nil {
		t.Errorf("a renewal of its neighbour: %v", err)
	}
	back()
	if err := <-purged; err != nil {
		t.Errorf("purge: %v", err)
	}
	if out := acquire(t, s, unreadable); out.Kind != idem.VerdictAcquired {
		t.Errorf("afterwards: %v", out.Kind)
	}
}

// broken is a codec that does not work.
type broken struct{ seal, open error }

func (b broken) Seal(_ idem.Key, r *idem.Response) (*idem.Response, error) {
	return &idem.Response{Status: r.Status, Sealed: true, Body: r.Body}, b.seal
}

func (b broken) Open(_ idem.Key, r *idem.Response) (*idem.Response, error) {
	return &idem.Response{Status: r.Status, Body: r.Body}, b.open
}

// What cannot be sealed is not stored, in the open or at all; what cannot be opened is
// given to nobody, and executed by nobody.
func TestACodecThatFails(t *testing.T) {
	t.Parallel()
	errFails := errors.New("so it was planned")
	r := &idem.Response{Status: 200, Body: []byte("secret")}

	s := open(t, estore.Config{Dir: t.TempDir(), Codec: broken{seal: errFails}})
	c := claim("cannot be sealed")
	acquire(t, s, c)
	if err := s.Complete(t.Context(), c.Lease(), r); !errors.Is(err, errFails) {
		t.Errorf("complete: %v", err)
	}
	if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictInProgress {
		t.Errorf("it is %v", out.Kind)
	}

	s = open(t, estore.Config{Dir: t.TempDir(), Codec: broken{open: errFails}})
	c = claim("cannot be opened")
	acquire(t, s, c)
	if err := s.Complete(t.Context(), c.Lease(), r); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Acquire(t.Context(), rivalOf(c)); !errors.Is(err, errFails) || out.Response != nil {
		t.Errorf("acquire: %+v, %v", out, err)
	}
	if record, err := s.Get(t.Context(), c.Key); !errors.Is(err, errFails) || record.Response != nil {
		t.Errorf("get: %+v, %v", record, err)
	}
}

// A lease that lapsed, and was kept for nobody after that, is not taken up again: the
// attempt is lost, and the key new.
func TestP1ALeaseThatEndedIsNotRenewed(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir(), SweepEvery: time.Hour})
	c := claim("k")
	c.TTL, c.Retention = time.Millisecond, time.Millisecond
	acquire(t, s, c)
	pass(5 * time.Millisecond)
	if err := renew(t, s, c); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("a renewal: %v", err)
	}
	if record, err := s.Get(t.Context(), c.Key); !errors.Is(err, idem.ErrNotFound) {
		t.Errorf("it is shown as %v, %v", record.State, err)
	}
	if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictAcquired || out.Attempt != 1 {
		t.Errorf("it is %v, attempt %d", out.Kind, out.Attempt)
	}
}

// Who asks does not wait for a read longer than its own time allows.
func TestWaitingForAReadEndsWithTheContext(t *testing.T) {
	t.Parallel()
	disk := &hangingDisk{FS: vfs.NewMem()}
	config := estore.Config{Dir: "data", Timeout: time.Hour, SweepEvery: time.Hour}.OnFS(disk)
	s := open(t, config)
	done := claim("done")
	acquire(t, s, done)
	complete(t, s, done, "on the disk")
	s.Flush(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, config)
	hung, back := disk.reads.shut()
	defer back()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		_, err := s.Acquire(ctx, rivalOf(done))
		asked <- err
	}()
	<-hung
	cancel()
	wantRefused(t, "a replay", <-asked)
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("that somebody left is no trouble of the disk: %v", err)
	}
	back()
	if out := acquire(t, s, rivalOf(done)); out.Kind != idem.VerdictCompleted {
		t.Errorf("afterwards: %v", out.Kind)
	}
}
