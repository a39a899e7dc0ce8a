package estore_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// TestDamagedFiles truncates files of the store and flips bits in them, anywhere.
// The store then says so, when it is opened or when it is asked, or it has every
// record; a response that is not the key's is never replayed, and nothing that
// was acknowledged is silently gone. The one exception is the end of the log: a
// log that is cut off looks like one whose last writes did not make it to the
// disk, which is what a power loss leaves, so whoever cuts it takes what was
// written last.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64N(1 << 40)
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	n := 150
	if times, err := strconv.Atoi(os.Getenv("DAMAGE")); err == nil {
		n *= times
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	intact, synced := settledStore(t)
	counts := map[string]int{}
	for i := range n {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(intact)); err != nil {
			t.Fatal(err)
		}
		what, isLog := damage(t, dir, synced, rng, i%2 == 0)
		// In a process of its own: the engine may end it, which is a refusal too.
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "DAMAGED_DIR="+dir, "GORACE=atexit_sleep_ms=0") // the detector would sleep a second
		out, err := cmd.CombinedOutput()
		verdict, why, found := strings.Cut(string(out), verdictEnd)
		if err != nil || !found {
			verdict, why = verdictRefused, string(out)
			if !strings.Contains(why, "store_engine_failed") {
				t.Errorf("SEED=%d, damage %d (%s): it ended with %v and %s", seed, i, what, err, out)
			}
		}
		counts[verdict]++
		if verdict == verdictWrong || verdict == verdictLost && !isLog {
			t.Errorf("SEED=%d, damage %d (%s): %s: %s", seed, i, what, verdict, why)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("figure: SEED=%d, %d files damaged: %v", seed, n, counts)
	if counts[verdictRefused] == 0 || counts[verdictWhole] == 0 {
		t.Errorf("%v: the damage does nothing, or is all there is", counts)
	}
}

// TestMain is the other process of TestDamagedFiles, too.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DAMAGED_DIR"); dir != "" {
		verdict, err := inspect(dir)
		fmt.Printf("%s%s%v", verdict, verdictEnd, err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const verdictEnd = " -- "

const (
	verdictRefused = "refused to open"
	verdictError   = "errors when asked"
	verdictWhole   = "all is there"
	verdictLost    = "records are gone"
	verdictWrong   = "WRONG REPLAY"
)

type kept struct {
	claim idem.Claim
	body  string
}

const records = 300

// record is a small one, which stands beside its key, or one that stands in a file of
// values.
func record(i int) kept {
	body := fmt.Sprintf("the response of key-%d", i)
	if i%2 == 0 {
		body = strings.Repeat(body+" ", 20)
	}
	return kept{claim(fmt.Sprintf("key-%d", i)), body}
}

// settledStore is a directory with records in tables and in the log, as it was
// without an orderly end, and how long each file was when it was synced.
func settledStore(t *testing.T) (dir string, synced map[string][]int64) {
	t.Helper()
	disk := &notedDisk{FS: vfs.Default, synced: map[string][]int64{}}
	s := open(t, estore.Config{Dir: t.TempDir()}.OnFS(disk))
	for i := range records {
		k := record(i)
		acquire(t, s, k.claim)
		if err := s.Complete(context.Background(), k.claim.Lease(), &idem.Response{Status: 200, Body: []byte(k.body)}); err != nil {
			t.Fatal(err)
		}
		if i == records/3 || i == records*2/3 {
			s.Flush(t)
		}
	}
	dir = t.TempDir()
	disk.mu.Lock()
	defer disk.mu.Unlock()
	if err := os.CopyFS(dir, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	if values, err := filepath.Glob(filepath.Join(dir, "*.blob")); err != nil || len(values) == 0 {
		t.Fatalf("there are no files of values (%v)", err)
	}
	return dir, maps.Clone(disk.synced)
}

// notedDisk notes how long files are when they are synced.
type notedDisk struct {
	vfs.FS

	mu     sync.Mutex
	synced map[string][]int64 // by the file's name; guarded by mu
}

func (d *notedDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &notedFile{File: f, disk: d, name: filepath.Base(name)}, nil
}

type notedFile struct {
	vfs.File
	disk *notedDisk
	name string
	size int64
}

func (f *notedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *notedFile) note() {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.synced[f.name] = append(f.disk.synced[f.name], f.size)
}

func (f *notedFile) Sync() error {
	f.note()
	return f.File.Sync()
}

func (f *notedFile) SyncData() error {
	f.note()
	return f.File.SyncData()
}

func (f *notedFile) SyncTo(n int64) (bool, error) {
	f.note()
	return f.File.SyncTo(n)
}

// damage changes one file and says how. isLog: it was the log.
//
// Half of the cuts are where the file ended when it was synced: what is left is whole, and
// only shorter.
func damage(t *testing.T, dir string, synced map[string][]int64, rng *rand.Rand, cut bool) (what string, isLog bool) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for {
		name := files[rng.IntN(len(files))].Name()
		path := filepath.Join(dir, name)
		content, err := os.ReadFile(path)
		size := len(bytes.TrimRight(content, "\x00")) // behind that is space in hand
		if err != nil || size == 0 {
			continue
		}
		at := rng.IntN(size)
		if cut {
			if ends := synced[name]; len(ends) > 0 && rng.IntN(2) == 0 {
				at = min(size, int(ends[rng.IntN(len(ends))]))
			}
			content, what = content[:at], fmt.Sprintf("%s cut off after %d bytes", name, at)
		} else {
			bit := rng.IntN(8)
			content[at] ^= 1 << bit
			what = fmt.Sprintf("%s: bit %d of byte %d flipped", name, bit, at)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return what, filepath.Ext(name) == ".log"
	}
}

// inspect opens the store and asks for every record.
func inspect(dir string) (verdict string, err error) {
	s, err := estore.New(estore.Config{Dir: dir, Logger: zerolog.New(os.Stderr)})
	if err != nil {
		return verdictRefused, err
	}
	defer func() { _ = s.Close() }()
	verdict = verdictWhole
	for i := range records {
		k := record(i)
		c := k.claim
		c.Owner = idem.NewOwner()
		out, askErr := s.Acquire(context.Background(), c)
		switch {
		case askErr != nil:
			verdict, err = verdictError, askErr
		case out.Kind == idem.VerdictCompleted && string(out.Response.Body) == k.body && out.Response.Status == 200:
		case out.Kind == idem.VerdictAcquired, out.Kind == idem.VerdictInProgress: // its completion is gone
			if verdict == verdictWhole {
				verdict, err = verdictLost, fmt.Errorf("%v is %v", c.Key.Value(), out.Kind)
			}
		default:
			return verdictWrong, fmt.Errorf("%v is %v and replays %v", c.Key.Value(), out.Kind, out.Response)
		}
	}
	return verdict, err
}
