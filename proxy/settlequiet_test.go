package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// oftenSettling looks through the store all the time.
func oftenSettling(c *proxy.Config) {
	c.SettleEvery, c.Policy.TTL, c.Policy.Heartbeat = 10*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
}

// leftInDoubt is a record whose proxy died.
func (r *rig) leftInDoubt(key idem.Key, recipe idem.Recipe) {
	r.t.Helper()
	claim := idem.Claim{
		Key: key, Owner: idem.NewOwner(), TTL: time.Millisecond, Retention: time.Minute, HoldOnLapse: true, Recipe: recipe,
	}
	if _, err := r.store.Acquire(r.t.Context(), claim); err != nil {
		r.t.Fatal(err)
	}
}

// A key that the endpoint cannot be asked about, since no field can have its scope, says
// nothing of the endpoint.
func TestUnspeakableScopeIsNoFailure(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRig(t, l.answer, l.settling(t, 10*time.Second), oftenSettling)
	r.post("known", "x")
	known, err := r.store.Get(t.Context(), mustKey("known"))
	if err != nil {
		t.Fatal(err)
	}
	key := mustKey("k").InScope("\x01")
	r.leftInDoubt(key, known.Recipe)
	r.until("it was tried", func() bool {
		record, err := r.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		doubt, known := r.server.Doubt(&record)
		return known && doubt.Asked > 0
	})
	if all := r.server.Settling().Endpoints; len(all) != 1 || all[0].Failures > 0 || all[0].Err != nil || l.asked.Load() > 0 {
		t.Errorf("%+v, asked %d times", all, l.asked.Load())
	}
}

// Routes that share an endpoint show it once.
func TestSharedEndpointIsShownOnce(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRig(t, l.answer, l.settling(t, 10*time.Second), func(c *proxy.Config) {
		c.Routes = []proxy.Route{{Name: "other", Match: proxy.Match{Path: "/other"}, Rules: c.Rules}}
	})
	if all := r.server.Settling().Endpoints; len(all) != 1 {
		t.Errorf("%+v", all)
	}
	r.do("POST", "/other", "k", "x")
}

// Records of a route that settles nothing are not for the settler.
func TestHeldRecordsAreLeftAlone(t *testing.T) {
	t.Parallel()
	l, found := newLedger(), make(chan int, 100)
	r := newRig(t, backendtest.OK, l.settling(t, 10*time.Second), oftenSettling, func(c *proxy.Config) {
		hold := c.Rules
		hold.Receipts, hold.Policy.OnAmbiguous = nil, idem.AmbiguousHold
		c.Routes = []proxy.Route{{Name: "hold", Match: proxy.Match{Path: "/hold"}, Rules: hold}}
		c.Trace.Looked = func(n int, _ time.Duration, _ error, _ bool) {
			select {
			case found <- n:
			default:
			}
		}
	})
	r.do("POST", "/hold", "held", "x")
	held, err := r.store.Get(t.Context(), mustKey("held"))
	if err != nil {
		t.Fatal(err)
	}
	r.leftInDoubt(mustKey("k"), held.Recipe)
	for len(found) > 0 {
		<-found
	}
	<-found // which may have begun before
	if n := <-found; n != 0 || l.asked.Load() != 0 {
		t.Errorf("found %d, asked %d times", n, l.asked.Load())
	}
	if record, err := r.store.Get(t.Context(), mustKey("k")); err != nil || record.State != idem.Unknown {
		t.Errorf("%v %v", record.State, err)
	}
}

// A receipt's response counts until its client has taken it.
func TestReceiptsCountUntilTheyAreTaken(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Idempotency-Outcome", "executed")
		_, _ = w.Write(make([]byte, 16<<20))
	}))
	t.Cleanup(endpoint.Close)
	r := newRig(t, cutFirst, func(c *proxy.Config) {
		receipts, err := proxy.NewHTTPReceipts(endpoint.URL, "", 20*time.Second, 32<<20)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous = receipts, 20*time.Second, idem.AmbiguousSettle
		c.MaxBuffered, c.MaxResponseBody = 10<<20, 32<<20
	})
	slow := r.dial("POST /p HTTP/1.1\r\nHost: x\r\nIdempotency-Key: slow\r\nContent-Length: 1\r\n\r\nx")
	r.until("it is answered", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.outcomes[proxy.Executed] == 1 })
	r.isProblem(r.post("other", "x"), 503, "overloaded")
	_ = slow.Close()
	r.until("it counts no more", func() bool { return r.post("probe", "x").StatusCode == http.StatusOK })
}
