package proxy_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A server that ends gives up the question that an endpoint does not answer: it says
// that the attempt is left, and the key stays held for whoever asks next.
func TestShutdownGivesUpAQuestion(t *testing.T) {
	t.Parallel()
	var silently atomic.Bool
	asked, silence := make(chan struct{}, 1), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		if silently.Load() {
			asked <- struct{}{}
			<-silence
		}
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(silence) })
	x := &told{}
	var noted atomic.Int64
	r := newRig(t, lose, x.settler, func(c *proxy.Config) {
		c.Trace.Asked = func(*proxy.EndpointStatus, error, bool) { noted.Add(1) }
		receipts, err := proxy.NewHTTPReceipts(silent.URL, "", time.Hour, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous = receipts, 50*time.Millisecond, idem.AmbiguousSettle
	})
	r.isProblem(r.post("k", "x"), 502, "outcome-pending")
	silently.Store(true)
	select { // in the background
	case <-asked:
	case <-time.After(20 * time.Second):
		t.Fatal("the endpoint is not asked again")
	}
	before := noted.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // the question itself has an hour
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Errorf("it waited for the answer: %v", err)
	}
	x.is(t, "left 1, at the end: true")
	if n := noted.Load() - before; n > 0 {
		t.Errorf("that the server gave up was taken %d times for the endpoint's failure", n)
	}
	if record, err := r.store.Get(t.Context(), mustKey("k")); err != nil || record.State != idem.Unknown {
		t.Errorf("%v %v", record.State, err)
	}
}

// A request without trouble costs no call more where what is in doubt is settled: the
// backend gets that request, and the endpoint for receipts no question.
func TestSettleCostsNothingWithoutTrouble(t *testing.T) {
	t.Parallel()
	const requests = 5
	for _, ambiguity := range []idem.Ambiguity{idem.AmbiguousRelease, idem.AmbiguousHold, idem.AmbiguousSettle} {
		t.Run(ambiguity.String(), func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			var got atomic.Int64
			respond := func(c backendtest.Conn, q *backendtest.Request) { got.Add(1); l.answer(c, q) }
			change := func(c *proxy.Config) { c.Policy.OnAmbiguous = ambiguity }
			if ambiguity == idem.AmbiguousSettle {
				change = l.settling(t, 10*time.Second)
			}
			counting := &counted{}
			r := newRig(t, respond, change, counting.store(t))
			for i := range requests {
				if a := r.post(string(rune('a'+i)), "x"); a.StatusCode != 201 {
					t.Errorf("%d %q", a.StatusCode, a.body)
				}
			}
			if err := r.server.Shutdown(t.Context()); err != nil { // nothing is asked afterwards, either
				t.Error(err)
			}
			if got.Load() != requests || l.asked.Load() != 0 {
				t.Errorf("the backend got %d requests, want %d; the endpoint %d questions, want none", got.Load(), requests, l.asked.Load())
			}
			counting.is(t, requests)
		})
	}
}

// counted is a store that counts what is asked of it for a request's sake.
type counted struct {
	*storetest.Memory

	claims, ends, other atomic.Int64
}

func (n *counted) store(t *testing.T) func(*proxy.Config) {
	t.Helper()
	return func(c *proxy.Config) {
		n.Memory = storetest.NewMemory()
		c.Engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, n.Memory, n)})
	}
}

// is wants a claim and an end for each request, and nothing else.
func (n *counted) is(t *testing.T, requests int64) {
	t.Helper()
	if claims, ends, other := n.claims.Load(), n.ends.Load(), n.other.Load(); claims != requests || ends != requests || other != 0 {
		t.Errorf("the store had %d claims, %d ends and %d other calls, want %d, %d and none", claims, ends, other, requests, requests)
	}
}

func (n *counted) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	n.claims.Add(1)
	return n.Memory.Acquire(ctx, c)
}

func (n *counted) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	n.ends.Add(1)
	return n.Memory.Complete(ctx, l, r)
}

func (n *counted) Release(ctx context.Context, l idem.Lease) error {
	n.other.Add(1)
	return n.Memory.Release(ctx, l)
}

func (n *counted) Hold(ctx context.Context, l idem.Lease) error {
	n.other.Add(1)
	return n.Memory.Hold(ctx, l)
}

func (n *counted) Get(ctx context.Context, k idem.Key) (idem.Record, error) {
	n.other.Add(1)
	return n.Memory.Get(ctx, k)
}
