package app_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// copied is what a store must have after it was copied to.
type copied interface {
	idem.Store
	idem.Inspector
	idem.Registry
}

func copyClaim(name string) idem.Claim {
	key, _ := idem.ParseKey(name)
	h := idem.Hints{1, 2, 3, 4}
	return idem.Claim{
		Key: key.InScope("acct"), Owner: h.NewOwner(), Fingerprint: idem.Fingerprint{1}, Binding: idem.Binding{2}, Recipe: 3, Hints: h,
		TTL: time.Hour, Retention: time.Hour, Remember: 2 * time.Hour,
	}
}

func copyResponse() *idem.Response {
	return &idem.Response{
		Status: 307, Body: []byte("a\x00\xffb"),
		Header:   []idem.Field{{Name: []byte("X-A"), Value: []byte("1")}, {Name: []byte("x-a"), Value: []byte("2")}},
		Redirect: &idem.Redirect{From: []byte("here"), To: []byte("there")},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func embedded(t *testing.T, dir string) *estore.Store {
	t.Helper()
	s, err := estore.New(estore.Config{Dir: dir})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Records go to Redis and back to a directory, and are what they were: replays byte for byte, held
// keys by the same attempt, and no time grows.
func TestCopyBothWays(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.Start(t), t.Context()
	first, last := t.TempDir(), filepath.Join(t.TempDir(), "new")
	s := embedded(t, first)
	done, held, short := copyClaim("done"), copyClaim("held"), copyClaim("short")
	short.Retention = time.Millisecond
	for _, c := range []idem.Claim{done, held, short} {
		_, err := s.Acquire(ctx, c)
		must(t, err)
	}
	must(t, s.Complete(ctx, done.Lease(), copyResponse()))
	must(t, s.Complete(ctx, short.Lease(), copyResponse()))
	must(t, s.Hold(ctx, held.Lease()))
	must(t, s.Enter(ctx, "plan", "how records are named", time.Hour))
	before := map[idem.Key]idem.Record{}
	for _, c := range []idem.Claim{done, held, short} {
		r, err := s.Get(ctx, c.Key)
		for err == nil && c.Key == short.Key && r.State != idem.Expired {
			r, err = s.Get(ctx, c.Key)
		}
		must(t, err)
		before[c.Key] = r
	}
	must(t, s.Close())
	cfg := config.Default()
	for _, way := range [][2]string{{"embedded:" + first, server.URL()}, {server.URL(), "embedded:" + last}} {
		n, err := app.Copy(ctx, &cfg, way[0], way[1])
		if err != nil || n.Completed != 1 || n.Held != 1 || n.Expired != 1 || n.Entries < 1 {
			t.Fatalf("%v: %+v, %v", way, n, err)
		}
	}
	redis, err := rstore.New(rstore.Config{URL: server.URL()})
	must(t, err)
	t.Cleanup(func() { _ = redis.Close() })
	for name, s := range map[string]copied{"redis": redis, "embedded": embedded(t, last)} {
		for key, was := range before {
			isCopyOf(ctx, t, name, s, key, &was)
		}
		rival := done
		rival.Owner = idem.NewOwner()
		out, err := s.Acquire(ctx, rival)
		must(t, err)
		if out.Kind != idem.VerdictCompleted || !reflect.DeepEqual(idem.AppendResponse(nil, out.Response), idem.AppendResponse(nil, copyResponse())) {
			t.Errorf("%s replays %v %+v", name, out.Kind, out.Response)
		}
		rival.Fingerprint, rival.Hints = idem.Fingerprint{9}, idem.Hints{1, 2, 3, 9}
		if out, err = s.Acquire(ctx, rival); err != nil || !out.Part.Has(idem.PartBody) {
			t.Errorf("%s: of another body: %v differs, %v", name, out.Part, err)
		}
		if entries, err := s.Entries(ctx); err != nil || len(entries) == 0 || entries[0].Text != "how records are named" {
			t.Errorf("%s: registry %+v, %v", name, entries, err)
		}
	}
}

func isCopyOf(ctx context.Context, t *testing.T, name string, s copied, key idem.Key, was *idem.Record) {
	t.Helper()
	r, err := s.Get(ctx, key)
	must(t, err)
	if r.State != was.State || r.Owner != was.Owner || r.Fingerprint != was.Fingerprint || r.Binding != was.Binding || r.Recipe != was.Recipe {
		t.Errorf("%s: %+v was %+v", name, r, was)
	}
	const slack = int64(time.Minute / time.Millisecond)
	had, has := was.Expires-was.ReadAt, r.Expires-r.ReadAt
	if (r.Expires == 0) != (was.Expires == 0) || r.Expires != 0 && (has > had+10 || has < had-slack) {
		t.Errorf("%s: %s is kept for %d ms, and had %d", name, key.Value(), has, had)
	}
	if was.State == idem.Completed && (r.ReplayUntil-r.ReadAt > was.ReplayUntil-was.ReadAt+10 || r.ReplayUntil-r.ReadAt < was.ReplayUntil-was.ReadAt-slack) {
		t.Errorf("%s: it is replayed for another time", name)
	}
}

// What would lose something is refused, and leaves the target as it was.
func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	server, ctx, cfg := redistest.Start(t), t.Context(), config.Default()
	dir := t.TempDir()
	s := embedded(t, dir)
	if _, err := app.Copy(ctx, &cfg, "embedded:"+dir, server.URL()); !errors.Is(err, estore.ErrInUse) {
		t.Errorf("from a store in use: %v", err)
	} else if strings.Count(err.Error(), dir) != 1 || strings.Contains(err.Error(), "--store") {
		t.Errorf("the error is to name the directory, once, and no flag that was not given: %v", err)
	}
	_, err := s.Acquire(ctx, copyClaim("running")) // its lease is of an hour
	must(t, err)
	must(t, s.Close())
	if _, err := app.Copy(ctx, &cfg, "embedded:"+dir, server.URL()); !errors.Is(err, app.ErrCopyInUse) {
		t.Errorf("with a key in progress: %v", err)
	}
	empty := t.TempDir()
	must(t, embedded(t, empty).Close())
	if _, err := app.Copy(ctx, &cfg, "embedded:"+empty, "embedded:"+dir); !errors.Is(err, app.ErrCopyNotEmpty) {
		t.Errorf("over records: %v", err)
	}
	if _, err := app.Copy(ctx, &cfg, server.URL(), server.URL()); !errors.Is(err, app.ErrCopySame) {
		t.Errorf("to itself: %v", err)
	}
	for _, c := range []struct {
		from      string
		namespace string
		want      error
	}{
		{"embedded:" + empty, "", app.ErrCopyNothing},
		{"embedded:" + filepath.Join(t.TempDir(), "misspelt"), "", estore.ErrNone},
		{"embedded:" + t.TempDir(), "", estore.ErrNone}, // a directory, but no store's
		{server.URL(), "another", app.ErrCopyNothing},
	} {
		other, to := cfg, filepath.Join(t.TempDir(), "to")
		other.Namespace = cmp.Or(c.namespace, cfg.Namespace)
		n, err := app.Copy(ctx, &other, c.from, "embedded:"+to)
		if !errors.Is(err, c.want) {
			t.Errorf("of nothing, from %s in %q: %+v, %v, want %v", c.from, c.namespace, n, err, c.want)
		}
		if dir, isDir := strings.CutPrefix(c.from, "embedded:"); isDir && strings.Count(fmt.Sprint(err), dir) != 1 {
			t.Errorf("the error is to name the directory once: %v", err)
		}
		if dir, isDir := strings.CutPrefix(c.from, "embedded:"); isDir && errors.Is(c.want, estore.ErrNone) {
			if made, err := os.ReadDir(dir); err == nil && len(made) > 0 {
				t.Errorf("%s: a store was made where one was read", dir)
			}
		}
	}
	// A lease of a proxy that is gone lapses while the copy waits.
	s = embedded(t, empty)
	c := copyClaim("left")
	c.TTL, c.HoldOnLapse = 50*time.Millisecond, true
	_, err = s.Acquire(ctx, c)
	must(t, err)
	must(t, s.Close())
	if n, err := app.Copy(ctx, &cfg, "embedded:"+empty, server.URL()); err != nil || n.Held != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}
