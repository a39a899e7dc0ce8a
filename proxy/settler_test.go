package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// told is what a trace was told, in order.
type told struct {
	mu   sync.Mutex
	said []string
}

func (x *told) add(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.said = append(x.said, fmt.Sprintf(format, args...))
}

func (x *told) is(t *testing.T, want ...string) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !reflect.DeepEqual(x.said, want) {
		t.Errorf("told %q, want %q", x.said, want)
	}
}

// last is what was told last of what begins so.
func (x *told) last(begins string) (last string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, said := range x.said {
		if strings.HasPrefix(said, begins) {
			last = said
		}
	}
	return last
}

// alternates: one was told of first, the other last, and each change once.
func (x *told) alternates(t *testing.T, one, other string) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	var both []string
	for _, said := range x.said {
		if said == one || said == other {
			both = append(both, said)
		}
	}
	for i, said := range both {
		if said != []string{one, other}[i%2] {
			t.Errorf("told %q, want them in turn", both)
			return
		}
	}
	if len(both)%2 != 0 || len(both) == 0 {
		t.Errorf("told %q, want each begin and its end", both)
	}
}

// settler has a trace tell x what concerns it as a whole.
func (x *told) settler(c *proxy.Config) {
	c.Trace.SettlerFull = func(full bool) { x.add("full: %v", full) }
	c.Trace.Left = func(n int, atEnd bool) { x.add("left %d, at the end: %v", n, atEnd) }
}

func lose(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() }

// What is in doubt when the server ends is told, once. Its keys stay held.
func TestWhatIsLeftAtTheEndIsTold(t *testing.T) {
	t.Parallel()
	l, x := newLedger(), &told{}
	l.away.Store(true)
	r := newRig(t, lose, l.settling(t, 50*time.Millisecond), x.settler)
	for _, key := range []string{"k", "l"} {
		r.isProblem(r.post(key, "x"), 502, "outcome-pending")
	}
	for range 2 {
		if err := r.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	x.is(t, "left 2, at the end: true")
	if record, err := r.store.Get(t.Context(), mustKey("k")); err != nil || record.State != idem.Unknown {
		t.Errorf("%v %v", record.State, err)
	}
}

// Nothing in doubt, nothing told.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	l, x := newLedger(), &told{}
	r := newRig(t, l.answer, l.settling(t, time.Second), x.settler)
	r.post("k", "x")
	if err := r.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	x.is(t)
}

// What there is no room for is told, stays held, and is looked for as soon as there is
// room, long before the next look would be.
func TestTooManyInDoubt(t *testing.T) {
	t.Parallel()
	l, x := newLedger(), &told{}
	l.away.Store(true)
	r := newRig(t, lose, l.settling(t, 50*time.Millisecond), x.settler, func(c *proxy.Config) { c.SettleEvery = time.Hour })
	r.server.KnowAtMost(2)
	for _, key := range []string{"a", "b", "c", "d"} {
		r.isProblem(r.post(key, "x"), 502, "outcome-pending")
	}
	if n := r.server.Settling().Unsettled; n != 2 {
		t.Errorf("%d are known", n)
	}
	x.is(t, "full: true", "left 1, at the end: false", "left 1, at the end: false")
	l.away.Store(false)
	for _, key := range []string{"a", "b", "c", "d"} {
		r.until(key+" is settled", func() bool {
			_, err := r.store.Get(t.Context(), mustKey(key))
			return errors.Is(err, idem.ErrNotFound)
		})
	}
	r.until("it is told that there is room", func() bool { return x.last("full: ") == "full: false" })
	if err := r.server.Shutdown(t.Context()); err != nil { // nothing is told after that
		t.Error(err)
	}
	x.alternates(t, "full: true", "full: false")
}

// An endpoint that does not answer, or does again, is told of at the change, and why is
// known meanwhile: of the endpoint, and of each attempt.
func TestEndpointsAreTold(t *testing.T) {
	t.Parallel()
	l, x := newLedger(), &told{}
	r := newRig(t, lose, l.settling(t, 2*time.Second), func(c *proxy.Config) {
		c.Trace.Asked = func(before *proxy.EndpointStatus, err error, news bool) {
			if news {
				x.add("%v answers: %v", strings.HasSuffix(before.URL, "/receipts"), err == nil)
			}
		}
	})
	status := func() proxy.EndpointStatus {
		all := r.server.Settling().Endpoints
		if len(all) != 1 {
			t.Fatalf("the endpoints are %+v", all)
		}
		return all[0]
	}
	if s := status(); s.Failures != 0 || s.Err != nil || !s.AnsweredAt.IsZero() {
		t.Errorf("before: %+v", s)
	}
	r.isProblem(r.post("k", "x"), 502, "attempt-voided")
	if s := status(); s.Failures != 0 || s.Err != nil || s.AnsweredAt.IsZero() {
		t.Errorf("it answers: %+v", s)
	}
	l.away.Store(true)
	r.isProblem(r.post("k", "x"), 502, "outcome-pending")
	x.is(t, "true answers: false")
	if s := status(); s.Failures < 2 || !strings.Contains(fmt.Sprint(s.Err), "it answered PUT with 503") || s.FailedAt.IsZero() {
		t.Errorf("it does not: %+v", s)
	}
	record, err := r.store.Get(t.Context(), mustKey("k"))
	if err != nil {
		t.Fatal(err)
	}
	r.until("it was asked about", func() bool {
		d, known := r.server.Doubt(&record)
		return known && d.Asked > 0 && !d.Since.IsZero() && strings.Contains(fmt.Sprint(d.Err), "it answered PUT with 503")
	})
	if s := r.server.Settling(); s.Unsettled != 1 || s.Since.IsZero() {
		t.Errorf("%+v", s)
	}
	l.away.Store(false)
	r.until("it is settled", func() bool { return r.server.Settling().Unsettled == 0 })
	x.is(t, "true answers: false", "true answers: true")
	if s := status(); s.Failures != 0 || s.Err == nil {
		t.Errorf("it answers again: %+v", s)
	}
	if _, known := r.server.Doubt(&record); known {
		t.Error("it is asked about for ever")
	}
}

// A route that settles nothing has no endpoint to show.
func TestNoEndpoints(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	r.post("k", "x")
	if s := r.server.Settling(); s.Unsettled != 0 || !s.Since.IsZero() || s.Endpoints != nil {
		t.Errorf("%+v", s)
	}
}

// hidden is a store that cannot be looked through, for some time.
type hidden struct {
	*storetest.Memory

	until atomic.Int64 // so many looks fail
}

func (u *hidden) List(ctx context.Context, visit func(*idem.Record) bool) error {
	if u.until.Add(-1) >= 0 {
		return fmt.Errorf("%w: so it was planned", idem.ErrUnavailable)
	}
	return u.Memory.List(ctx, visit)
}

// A look through the store that fails is told, with its error, and so is how the next one
// ended.
func TestFailedLooksAreTold(t *testing.T) {
	t.Parallel()
	store := &hidden{Memory: storetest.NewMemory()}
	store.until.Store(3)
	x := &told{}
	r := newRig(t, backendtest.OK, newLedger().settling(t, time.Second), func(c *proxy.Config) {
		c.Engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store.Memory, store)})
		c.SettleEvery, c.Policy.TTL, c.Policy.Heartbeat = 10*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
		c.Trace.Looked = func(found int, _ time.Duration, err error, turned bool) {
			x.add("found %d, failed %v, turned %v", found, errors.Is(err, idem.ErrUnavailable), turned)
		}
	})
	r.post("k", "x")
	r.until("it looked five times", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return len(x.said) >= 5
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	want := []string{
		"found 0, failed true, turned true", "found 0, failed true, turned false", "found 0, failed true, turned false",
		"found 0, failed false, turned true", "found 0, failed false, turned false",
	}
	if !reflect.DeepEqual(x.said[:5], want) {
		t.Errorf("told %q", x.said[:5])
	}
}

// One endpoint's silence does not keep attempts of another one waiting.
func TestSilentEndpointIsAlone(t *testing.T) {
	t.Parallel()
	l := newLedger()
	var asked atomic.Int64
	silence := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1); <-silence }))
	t.Cleanup(silent.Close)
	r := newRig(t, l.answer, l.settling(t, 10*time.Second), func(c *proxy.Config) {
		receipts, err := proxy.NewHTTPReceipts(silent.URL, "", time.Minute, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c.SettleEvery, c.Policy.TTL, c.Policy.Heartbeat = 20*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
		other := c.Rules
		other.Receipts = receipts
		c.Routes = []proxy.Route{{Name: "silent", Match: proxy.Match{Path: "/silent"}, Rules: other}}
	})
	t.Cleanup(func() { close(silence) }) // before the proxy ends, which waits for its questions
	hold := func(key string, recipe idem.Recipe) {
		claim := idem.Claim{
			Key: mustKey(key), Owner: idem.NewOwner(), TTL: time.Millisecond, Retention: time.Minute, HoldOnLapse: true, Recipe: recipe,
		}
		if _, err := r.store.Acquire(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
	}
	r.do("POST", "/pay", "k", "x")
	record, err := r.store.Get(t.Context(), mustKey("k"))
	if err != nil {
		t.Fatal(err)
	}
	for recipe := range r.server.RecipeTexts() {
		for i := range 40 {
			if recipe != record.Recipe {
				hold(fmt.Sprint("silent-", i), recipe)
			}
		}
	}
	r.until("the silent one is asked", func() bool { return asked.Load() >= 16 })
	hold("quick", record.Recipe)
	r.until("the other one answers", func() bool {
		_, err := r.store.Get(t.Context(), mustKey("quick"))
		return errors.Is(err, idem.ErrNotFound)
	})
	if n := asked.Load(); n > 16 {
		t.Errorf("%d questions at a time", n)
	}
}

// Where no route settles, the store is not read: by the time that a proxy of the same
// settings that does settle has looked three times, the other one has not.
func TestNoLookWhereNothingSettles(t *testing.T) {
	t.Parallel()
	often := func(c *proxy.Config) {
		c.SettleEvery, c.Policy.TTL, c.Policy.Heartbeat = 10*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
	}
	var idle, busy atomic.Int64
	newRig(t, backendtest.OK, often, func(c *proxy.Config) {
		c.Trace.Looked = func(int, time.Duration, error, bool) { idle.Add(1) }
	})
	r := newRig(t, backendtest.OK, newLedger().settling(t, time.Second), often, func(c *proxy.Config) {
		c.Trace.Looked = func(int, time.Duration, error, bool) { busy.Add(1) }
	})
	r.until("it looked three times", func() bool { return busy.Load() >= 3 })
	if n := idle.Load(); n > 0 {
		t.Errorf("the other one looked %d times", n)
	}
}
