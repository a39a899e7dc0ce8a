package proxy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// The backend is told which attempt it sees, and nobody else may say so.
// A route may have its key in another header, and then has it in no other.
func TestKeyHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.KeyHeaders = []string{"X-Operation"} })
	for range 2 {
		r.do("POST", "/", "", "x", "x-operation: op", "Connection: x-operation")
		r.do("POST", "/", "other", "x")
	}
	r.outcome(proxy.Executed, 1)
	r.outcome(proxy.ReplayedStore, 1)
	r.outcome(proxy.Passed, 2)
}

func TestBackendIsToldTheAttempt(t *testing.T) {
	t.Parallel()
	seen := make(chan []string, 1)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		seen <- q.Header.Values("Idempotency-Attempt")
		c.Answer(503, "later")
	})
	for n := 1; n <= 3; n++ {
		r.post("k", "x", "Idempotency-Attempt: 77")
		if got := <-seen; len(got) != 1 || got[0] != fmt.Sprint(n) {
			t.Errorf("attempt %d: the backend was told %q", n, got)
		}
	}
	r.do("POST", "/", "", "x", "Idempotency-Attempt: 77")
	if got := <-seen; len(got) != 0 {
		t.Errorf("without a key the backend was told %q", got)
	}
}

// What is stored is the route's choice.
func TestWhatIsStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		var status int
		_, _ = fmt.Sscanf(q.URL.Path, "/%d", &status)
		c.Answer(status, fmt.Sprint("execution ", q.Number))
	}, hold, func(c *proxy.Config) {
		var err error
		if c.Policy.Statuses, err = idem.ParseStatuses([]string{"5xx"}, []string{"500"}); err != nil {
			t.Fatal(err)
		}
	})
	for path, want := range map[string]int{"/200": 1, "/429": 1, "/503": 2, "/502": 2, "/500": 1} {
		r.do("POST", path, path, "x")
		a := r.do("POST", path, path, "x")
		r.executions(path, want)
		if path == "/500" {
			r.isProblem(a, 409, "outcome-unknown")
		}
	}
}

// The backend overrules the route, for one response, and clients do not see it.
func TestBackendOverrules(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		c.Answer(200, fmt.Sprint("execution ", q.Number), "Idempotency-Policy: "+q.Header.Get("X-Ask"))
	})
	for ask, want := range map[string]struct {
		executions int
		retention  time.Duration
	}{
		"":                          {1, 24 * time.Hour},
		"no-store":                  {2, 0},
		"retention=60":              {1, time.Minute},
		"retention=60, no-store":    {2, 0},
		"no-store=?0":               {1, 24 * time.Hour},
		"no-store=1":                {1, 24 * time.Hour},
		"retention=0":               {1, 24 * time.Hour},
		"retention=1.5":             {1, 24 * time.Hour},
		"retention=99999999":        {1, 24 * time.Hour},
		"retention":                 {1, 24 * time.Hour},
		"something-else, x=(1 2)":   {1, 24 * time.Hour},
		"!":                         {1, 24 * time.Hour},
		"retention=60;because=\"\"": {1, time.Minute},
	} {
		key := "ask " + ask + "."
		for range 2 {
			if a := r.post(key, "x", "X-Ask: "+ask); a.StatusCode != 200 || a.Header.Get("Idempotency-Policy") != "" {
				t.Errorf("%q: %d, %v", ask, a.StatusCode, a.Header)
			}
		}
		r.executions(key, want.executions)
		if want.retention == 0 {
			continue
		}
		record, err := r.store.Get(t.Context(), mustKey(key))
		if err != nil {
			t.Errorf("%q: %v", ask, err)
		}
		if got := time.Duration(record.ReplayUntil-record.Updated) * time.Millisecond; got != want.retention {
			t.Errorf("%q: kept for %v, want %v", ask, got, want.retention)
		}
	}
	if a := r.do("POST", "/", "", "x", "X-Ask: no-store"); a.Header.Get("Idempotency-Policy") != "" {
		t.Error("a client without a key saw the policy")
	}
}

func TestKeyFormatOfARoute(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		var err error
		if c.Keys, err = idem.ParseKeyFormat("uuid", 1); err != nil {
			t.Fatal(err)
		}
	})
	a := r.post("order-7", "x")
	r.isProblem(a, 400, "key-format")
	r.executions("order-7", 0)
	if a := r.post("0b4e1c1e-7b1a-4e53-9d5a-0f0f6cf3f0aa", "x"); a.StatusCode != 200 {
		t.Errorf("a UUID got %d", a.StatusCode)
	}
}

// Failing open is a choice; it is marked, and ends with the store's failure.
func TestFailOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.FailOpen = true })
	mend := r.store.Sever()
	for n := 1; n <= 2; n++ {
		a := r.post("k", "x")
		if a.StatusCode != 200 || a.Header.Get("Idempotency-Unprotected") != "true" {
			t.Errorf("%d %v", a.StatusCode, a.Header)
		}
		r.executions("k", n)
	}
	r.outcome(proxy.FailedOpen, 2)
	mend()
	for range 2 {
		if a := r.post("other", "x"); a.Header.Get("Idempotency-Unprotected") != "" {
			t.Error("protected, but marked as not")
		}
	}
	r.executions("other", 1)
}

// unreadable is a store whose records are of a later build.
type unreadable struct{ *storetest.Memory }

func (unreadable) Acquire(context.Context, idem.Claim) (idem.Outcome, error) {
	return idem.Outcome{}, idem.ErrVersion
}

// A store that answers, but with what cannot be read, is no reason to fail open:
// there may be a response.
func TestFailOpenIsForOutages(t *testing.T) {
	t.Parallel()
	engine := idem.NewEngine(idem.Config{Store: unreadable{storetest.NewMemory()}})
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.FailOpen, c.Engine = true, engine })
	r.isProblem(r.post("k", "x"), 500, "store-unavailable")
	r.executions("k", 0)
}

// Keyed digests still tell payloads and callers apart, and are not the plain
// ones.
func TestSecret(t *testing.T) {
	t.Parallel()
	digests := map[string]idem.Record{}
	for _, secret := range []string{"", "one secret", "another secret"} {
		r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.Secret = []byte(secret) })
		const me, you = "Authorization: me", "Authorization: you"
		r.post("k", "x", me)
		if a := r.post("k", "x", me); a.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%q: the retry got %d", secret, a.StatusCode)
		}
		r.isProblem(r.post("k", "y", me), 422, "key-reused")
		r.isProblem(r.post("k", "x", you), 422, "key-of-another-caller")
		r.isProblem(r.post("k", "x"), 422, "key-of-another-caller")
		record, err := r.store.Get(t.Context(), mustKey("k"))
		if err != nil {
			t.Fatal(err)
		}
		for other, before := range digests {
			if record.Fingerprint == before.Fingerprint || record.Binding == before.Binding {
				t.Errorf("%q and %q make the same digests", secret, other)
			}
		}
		digests[secret] = record
	}
}

func TestFailStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.FailStatus = 503 })
	r.store.Sever()
	a := r.post("k", "x")
	r.isProblem(a, 503, "store-unavailable")
	if a.Header.Get("Retry-After") == "" {
		t.Error("a 503 without Retry-After")
	}
	r.executions("k", 0)
}
