package app_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// settlingOn runs a proxy whose backend breaks every request off, and whose endpoint
// answers only while it is not away.
func settlingOn(t *testing.T, away *atomic.Bool) (a *app.App, out *log, end func()) {
	t.Helper()
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Idempotency-Outcome", "voided")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(endpoint.Close)
	out = &log{}
	a, end = runUntil(t, zerolog.New(out).Level(zerolog.InfoLevel), configOf(t, b.URL(), func(c *config.Config) {
		c.OnAmbiguous, c.Receipts, c.SettleWithin = idem.AmbiguousSettle, endpoint.URL+"/receipts?secret=1", 300*time.Millisecond
	}))
	return a, out, end
}

// The log says once that an endpoint stopped answering, and once that it answers again,
// however often it was asked; and what is left at the end.
func TestSettlingIsLogged(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	away.Store(true)
	a, out, end := settlingOn(t, &away)
	for _, key := range []string{"a", "b", "c"} {
		post(t, a.URL(), key, "x")
	}
	out.await(t, `"event":"receipts_fail"`)
	away.Store(false)
	out.await(t, `"event":"receipts_answer"`)
	out.awaitTimes(t, `"event":"key_resolved"`, 3)
	away.Store(true)
	post(t, a.URL(), "d", "x")
	for name, min := range map[string]float64{
		`receipts_asked_total{result="answered"}`: 3, `receipts_asked_total{result="failed"}`: 4,
		"unsettled": 1,
	} {
		if got := metrics(t, a)[name]; got < min {
			t.Errorf("%s is %v, want %v at least", name, got, min)
		}
	}
	end()
	text := out.text()
	for event, want := range map[string]int{"receipts_fail": 2, "receipts_answer": 1, "unsettled_left": 1, "key_resolved": 3} {
		if n := strings.Count(text, `"event":"`+event+`"`); n != want {
			t.Errorf("%d lines of %s, want %d:\n%s", n, event, want, text)
		}
	}
	if !strings.Contains(text, `"attempts":1`) || strings.Contains(text, "secret") {
		t.Errorf("the log is\n%s", text)
	}
}
