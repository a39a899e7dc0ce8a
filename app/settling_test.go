package app_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
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

// An endpoint that fails in another way than at first has a line for that, too, and once it
// answers the log says how often it failed, and how in the end.
func TestEachKindOfFailureIsLogged(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	var status atomic.Int64
	status.Store(http.StatusServiceUnavailable)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if status.Load() == http.StatusNoContent {
			w.Header().Set("Idempotency-Outcome", "voided")
		}
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(endpoint.Close)
	out := &log{}
	a, end := runUntil(t, zerolog.New(out).Level(zerolog.InfoLevel), configOf(t, b.URL(), func(c *config.Config) {
		c.OnAmbiguous, c.Receipts, c.SettleWithin = idem.AmbiguousSettle, endpoint.URL, 100*time.Millisecond
	}))
	post(t, a.URL(), "a", "x")
	out.await(t, "it answered PUT with 503")
	status.Store(http.StatusUnauthorized)
	out.await(t, "it answered PUT with 401 (does receipts_secret_file")
	status.Store(http.StatusServiceUnavailable)
	post(t, a.URL(), "b", "x")
	status.Store(http.StatusNoContent)
	out.await(t, `"event":"receipts_answer"`)
	end()
	text := out.text()
	for _, status := range []string{"503", "401"} {
		if n := len(regexp.MustCompile(`"event":"receipts_fail".*PUT with `+status).FindAllString(text, -1)); n != 1 {
			t.Errorf("%d lines of receipts_fail for %s, want 1:\n%s", n, status, text)
		}
	}
	if !regexp.MustCompile(`"event":"receipts_answer","receipts":"[^"]+","failures":[1-9]\d*,"last_error":"[^"]+`).MatchString(text) {
		t.Errorf("the answer does not say what went before:\n%s", text)
	}
}
