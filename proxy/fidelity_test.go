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

const longAgo = "Mon, 02 Jan 2006 15:04:05 GMT"

// asSent says that an answer is the backend's: with its Date, and without a Content-Type.
func asSent(t *testing.T, what string, a answer) {
	t.Helper()
	if date, types := a.Header.Values("Date"), a.Header.Values("Content-Type"); a.StatusCode != http.StatusOK ||
		a.body != "made" || len(date) != 1 || date[0] != longAgo || len(types) > 0 {
		t.Errorf("%s: %d %q with Date %q and Content-Type %q", what, a.StatusCode, a.body, date, types)
	}
}

func sendLongAgo(c backendtest.Conn, _ *backendtest.Request) {
	c.Answer(http.StatusOK, "made", "Date: "+longAgo)
}

// What a client prefers changes nothing in the response that it gets: it is executed, and
// replayed, in the background just as in the handler.
func TestAsyncAnswersAreTheBackends(t *testing.T) {
	t.Parallel()
	const patient = preferAsync + ", wait=50"
	r := newRig(t, sendLongAgo, func(c *proxy.Config) { c.RespondAsync, c.MaxWait = true, time.Minute })
	asSent(t, "executed", r.post("plain", "x"))
	asSent(t, "executed in the background", r.post("k", "x", patient))
	asSent(t, "replayed", r.post("k", "x"))
	asSent(t, "replayed in the background", r.post("k", "x", patient))
	asSent(t, "replayed in the background at once", r.post("k", "x", preferAsync))
	r.outcome(proxy.ReplayedStore, 3)
}

// An attempt that was voided before leaves nothing in the answer to the next one.
func TestAnswersAfterAVoidedAttempt(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.Number == 1 {
			c.Answer(http.StatusServiceUnavailable, "no", "Idempotency-Outcome: voided", "X-First: 1", "Content-Type: text/html")
			return
		}
		sendLongAgo(c, q)
	}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.SettleAttempts = 1 })
	got := r.post("k", "x")
	asSent(t, "executed", got)
	if got.Header.Get("X-First") != "" {
		t.Errorf("it has a field of the voided attempt's answer: %v", got.Header)
	}
	asSent(t, "replayed", r.post("k", "x"))
}

// A receipt's response is the backend's as well.
func TestReceiptAnswersAreTheBackends(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil // else one is made up
		w.Header().Set("Date", longAgo)
		w.Header().Set("Idempotency-Outcome", "executed")
		_, _ = w.Write([]byte("made"))
	}))
	t.Cleanup(endpoint.Close)
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Reset() }, func(c *proxy.Config) {
		receipts, err := proxy.NewHTTPReceipts(endpoint.URL, "", 10*time.Second, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous = receipts, 10*time.Second, idem.AmbiguousSettle
	})
	asSent(t, "receipt", r.post("k", "x"))
	asSent(t, "replayed", r.post("k", "x"))
}

// Of a field that may stand once and stands twice, the last line counts, for all alike: see
// docs/conformance.md.
func TestFieldsThatStandTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Answer(http.StatusOK, "made", "Content-Type: text/plain", "Server: one", "Content-Type: text/html", "Server: two")
	})
	for _, what := range []string{"executed", "replayed"} {
		a := r.post("k", "x")
		types, servers := a.Header.Values("Content-Type"), a.Header.Values("Server")
		if len(types) != 1 || types[0] != "text/html" || len(servers) != 1 || servers[0] != "two" {
			t.Errorf("%s: Content-Type %q, Server %q", what, types, servers)
		}
	}
	r.executions("k", 1)
}
