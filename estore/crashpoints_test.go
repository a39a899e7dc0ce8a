package estore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// steppedDisk is a file system that says when something is to reach the disk: before and
// after each sync of a file or a directory, and before names change.
type steppedDisk struct {
	*vfs.MemFS
	step func(file bool) error // whether it is a file's sync; an error is its own, and it then does nothing
	full func() bool           // whether a write finds no space; nil: none does
}

func (d *steppedDisk) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &steppedFile{f, d, false}, nil
}

func (d *steppedDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.MemFS.Create(name, c))
}

func (d *steppedDisk) ReuseForWrite(oldName, newName string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.MemFS.ReuseForWrite(oldName, newName, c))
}

func (d *steppedDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return d.wrap(d.MemFS.OpenReadWrite(name, c, o...))
}

func (d *steppedDisk) OpenDir(name string) (vfs.File, error) {
	f, err := d.MemFS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &steppedFile{f, d, true}, nil
}

func (d *steppedDisk) Rename(from, to string) error {
	if err := d.step(false); err != nil {
		return err
	}
	return d.MemFS.Rename(from, to)
}

func (d *steppedDisk) Remove(name string) error {
	if err := d.step(false); err != nil {
		return err
	}
	return d.MemFS.Remove(name)
}

type steppedFile struct {
	vfs.File
	disk *steppedDisk
	dir  bool
}

func (f *steppedFile) Write(p []byte) (int, error) {
	if f.disk.full != nil && f.disk.full() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func (f *steppedFile) around(sync func() error) error {
	if err := f.disk.step(!f.dir); err != nil {
		return err
	}
	if err := sync(); err != nil {
		return err
	}
	_ = f.disk.step(false) // what is done cannot fail any more
	return nil
}

func (f *steppedFile) Sync() error     { return f.around(f.File.Sync) }
func (f *steppedFile) SyncData() error { return f.around(f.File.SyncData) }

func (f *steppedFile) SyncTo(n int64) (full bool, err error) {
	err = f.around(func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

// act is one step of the run, and how its key stands afterwards.
type act struct {
	name  string
	do    func(*crashRun) error
	key   string // empty: none changes
	stand string
}

// crashRun is a short life of a store. What it has acknowledged is the first done of acts.
type crashRun struct {
	t      *testing.T
	acts   []act
	claims map[string]idem.Claim
	store  *estore.Store
	done   atomic.Int32
}

// large goes into a file of its own when it leaves the engine's memory.
var large = strings.Repeat("large ", 500)

func newCrashRun(t *testing.T) *crashRun {
	t.Helper()
	r := &crashRun{t: t, claims: map[string]idem.Claim{}}
	for _, key := range []string{"a", "b", "c", "d", "brief"} {
		r.claims[key] = claim(key)
	}
	brief := r.claims["brief"]
	brief.Retention = time.Millisecond
	r.claims["brief"] = brief
	r.acts = []act{
		r.acquires("a"), r.completes("a", "answer"), r.acquires("brief"), r.completes("brief", "brief"), r.acquires("b"), r.holds("b"),
		r.acquires("c"), r.releases("c"), r.acquires("d"), r.completes("d", large), r.flushes(), r.resolves("b", "resolved"),
		r.acquires("c"), r.purges("a"), r.sweeps(), r.completes("c", "second"), r.flushes(),
	}
	return r
}

func (r *crashRun) acquires(key string) act {
	return act{"acquire", func(r *crashRun) error {
		out, err := r.store.Acquire(context.Background(), r.claims[key])
		if err == nil && out.Kind != idem.VerdictAcquired && out.Kind != idem.VerdictYours {
			return fmt.Errorf("%s: %v", key, out.Kind)
		}
		return err
	}, key, "in-progress"}
}

func (r *crashRun) completes(key, body string) act {
	return act{"complete", func(r *crashRun) error {
		c := r.claims[key]
		return r.store.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: []byte(body)})
	}, key, "completed " + body}
}

func (r *crashRun) holds(key string) act {
	return act{"hold", func(r *crashRun) error {
		c := r.claims[key]
		return r.store.Hold(context.Background(), c.Lease())
	}, key, "unknown"}
}

func (r *crashRun) releases(key string) act {
	return act{"release", func(r *crashRun) error {
		c := r.claims[key]
		return r.store.Release(context.Background(), c.Lease())
	}, key, ""}
}

func (r *crashRun) resolves(key, body string) act {
	return act{"resolve", func(r *crashRun) error {
		c := r.claims[key]
		return r.store.Resolve(context.Background(), c.Key, c.Owner, &idem.Response{Status: 200, Body: []byte(body)})
	}, key, "completed " + body}
}

func (r *crashRun) purges(key string) act {
	return act{"purge", func(r *crashRun) error { return r.store.Purge(context.Background(), r.claims[key].Key) }, key, ""}
}

func (r *crashRun) flushes() act {
	return act{name: "flush", do: func(r *crashRun) error { return r.store.TryFlush() }}
}

func (r *crashRun) sweeps() act {
	return act{name: "sweep", do: func(r *crashRun) error { return r.store.TrySweep(context.Background()) }}
}

// live opens the store on the disk, acts, and closes it.
func (r *crashRun) live(disk vfs.FS, exit func(int)) error {
	s, err := estore.New(stepped().OnFS(disk).OnExit(exit))
	if err != nil {
		return err
	}
	r.store = s
	for _, a := range r.acts {
		for try := 0; try == 0 || try < 3 && errors.Is(err, idem.ErrUnavailable); try++ { // as the engine does
			err = a.do(r)
		}
		if err != nil {
			err = fmt.Errorf("%s %s: %w", a.name, a.key, err)
			break
		}
		r.done.Add(1)
	}
	return errors.Join(err, s.Close())
}

func stepped() estore.Config {
	return estore.Config{Dir: "data", SweepEvery: time.Hour, Timeout: time.Hour}
}

// stands is how the keys stand after so many acts. What soon ends is left out.
func (r *crashRun) stands(done int) map[string]string {
	all := map[string]string{}
	for _, a := range r.acts[:done] {
		if a.key != "" {
			all[a.key] = a.stand
		}
	}
	delete(all, "brief")
	return all
}

// verify opens the store on what a crash has left: it must stand as after one of the acts
// from the last that was acknowledged before the crash to the one that was under way, and
// go on.
func (r *crashRun) verify(fs vfs.FS, from, to int) error {
	s, err := estore.New(stepped().OnFS(fs).OnExit(func(code int) { r.t.Errorf("the process ends with %d", code) }))
	if err != nil {
		return fmt.Errorf("the store does not open: %w", err)
	}
	defer func() { _ = s.Close() }()
	found := map[string]string{}
	for key, c := range r.claims {
		record, err := s.Get(context.Background(), c.Key)
		switch {
		case errors.Is(err, idem.ErrNotFound):
			found[key] = ""
		case err != nil:
			return fmt.Errorf("%s: %w", key, err)
		case record.State == idem.Completed:
			found[key] = "completed " + string(record.Response.Body)
		default:
			found[key] = record.State.String()
		}
	}
	if err := r.oneOf(found, from, to); err != nil {
		return err
	}
	next := claim("next")
	out, err := s.Acquire(context.Background(), next)
	if err != nil || out.Kind != idem.VerdictAcquired {
		return fmt.Errorf("afterwards: %v %w", out.Kind, err)
	}
	return s.Complete(context.Background(), next.Lease(), &idem.Response{Status: 200})
}

func (r *crashRun) oneOf(found map[string]string, from, to int) error {
	var wrong error
	for n := from; n <= min(to, len(r.acts)); n++ {
		wrong = nil
		want := r.stands(n)
		for key, stands := range found {
			if key != "brief" && stands != want[key] {
				wrong = fmt.Errorf("%s is %.40q, and %.40q after %d acts", key, stands, want[key], n)
			}
		}
		if wrong == nil {
			return nil
		}
	}
	return wrong
}

// crash opens the store on what each kind of crash would leave now: nothing that was not
// synced, all of it, and some of it. Of the names in a directory, some of it is more than a
// file system with a journal can lose: a later one may be there without an earlier one. The
// engine does not open if the file that says which index counts is there and the index is
// not. That counts in closed. Unless CRASHES=all, it is one of these kinds, at random.
func (r *crashRun) crash(fs *vfs.MemFS, rng *rand.Rand) (states, closed int, err error) {
	kinds := []int{0, 100, 50, 50}
	if os.Getenv("CRASHES") != "all" {
		kinds = kinds[rng.IntN(len(kinds)):][:1]
	}
	for _, unsynced := range kinds {
		from := int(r.done.Load())
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})
		to := int(r.done.Load()) + 1
		err := r.verify(clone, from, to)
		switch {
		case err == nil:
			states++
		case unsynced == 50 && strings.Contains(err.Error(), "could not open manifest file"):
			closed++
		default:
			return states, closed, fmt.Errorf("with %d %% of what was not synced: %w", unsynced, err)
		}
	}
	return states, closed, nil
}

// TestP2EveryCrashPoint lets a store live through some acts, and the power fail before and
// after everything that is to reach the disk, one after the other, opening and closing
// included.
func TestP2EveryCrashPoint(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newCrashRun(t)
	disk := &steppedDisk{MemFS: vfs.NewCrashableMem()}
	var mu sync.Mutex
	steps, states, closed, left := 0, 0, 0, 1 // the first failure says enough
	disk.step = func(bool) error {
		mu.Lock()
		defer mu.Unlock()
		n, not, err := r.crash(disk.MemFS, rng)
		steps, states, closed = steps+1, states+n, closed+not
		if err != nil && left > 0 {
			left--
			t.Errorf("seed %d: a crash at step %d, after %d acts: %v", seed, steps, r.done.Load(), err)
		}
		return nil
	}
	exits := func(code int) { t.Errorf("the process ends with %d", code) }
	if err := r.live(disk, exits); err != nil {
		t.Fatal(err)
	}
	again, err := estore.New(stepped().OnFS(disk).OnExit(exits)) // with what there is
	if err == nil {
		err = again.Close()
	}
	if err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("figure: %d crash points, %d states, %d acts; %d states more in which a later name was there without an earlier one",
		steps, states, len(r.acts), closed)
	if steps < 100 || closed > steps/10 {
		t.Errorf("%d crash points, and %d times the store was not opened", steps, closed)
	}
}

// TestP2EverySyncThatFails has each sync of a file fail once, as a disk does that has lost
// a block: what was not synced may be gone, although the next sync succeeds. The process
// may end, or refuse; nothing that it acknowledged is lost. Where the engine cannot make a
// directory durable, or begin another log, it panics with its locks held. A process ends by
// that, too, but so does a test: those are left out.
func TestP2EverySyncThatFails(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	ended := 0
	for at := 1; ; at++ {
		r := newCrashRun(t)
		r.acts = slices.DeleteFunc(r.acts, func(a act) bool { return a.name == "flush" })
		disk := &steppedDisk{MemFS: vfs.NewCrashableMem()}
		var steps atomic.Int32
		disk.step = func(file bool) error {
			if file && int(steps.Add(1)) == at {
				return &fsError{at}
			}
			return nil
		}
		if r.ends(disk) {
			ended++
		}
		if _, _, err := r.crash(disk.MemFS, rng); err != nil {
			t.Errorf("seed %d: step %d failed, %d acts were acknowledged: %v", seed, at, r.done.Load(), err)
		}
		if int(steps.Load()) < at { // none failed
			t.Logf("figure: each of %d syncs failed once, and the process ended %d times", at-1, ended)
			if at < 10 {
				t.Errorf("only %d steps", at)
			}
			return
		}
	}
}

// fsError is what a file system says of a sync that failed.
type fsError struct{ at int }

func (e *fsError) Error() string { return fmt.Sprintf("step %d: %v", e.at, syscall.EIO) }

// Unwrap is the system's own.
func (*fsError) Unwrap() error { return syscall.EIO }
