package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A route gives requests without a key one, for a short while.
func TestDerivedKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			c.Answer(200, fmt.Sprint("execution ", q.Number), "Idempotency-Policy: retention=3600")
		}, func(c *proxy.Config) {
			c.DeriveKey = 10 * time.Second
			c.MaxRequestBody = 100
		})
		send := func(method, body, who string) answer {
			if who == "" {
				return r.do(method, "/pay", "", body)
			}
			return r.do(method, "/pay", "", body, "Authorization: "+who)
		}
		first := send("POST", "x", "me")
		if first.Header.Get("Idempotency-Key-Derived") != "true" || first.Header.Get("Idempotent-Replayed") != "" {
			t.Errorf("the first: %v", first.Header)
		}
		time.Sleep(5 * time.Second)
		again := send("POST", "x", "me")
		if again.body != first.body || again.Header.Get("Idempotent-Replayed") != "true" || again.Header.Get("Idempotency-Key-Derived") != "true" {
			t.Errorf("a double click: %q %v", again.body, again.Header)
		}
		for name, other := range map[string]answer{
			"another payload": send("POST", "y", "me"), "another caller": send("POST", "x", "you"),
			"another host":   r.do("POST", "/pay", "", "x", "Authorization: me", "Host: b.example"),
			"another type":   r.do("POST", "/pay", "", "x", "Authorization: me", "Content-Type: a/b"),
			"another method": send("PATCH", "x", "me"), "an idempotent method": send("PUT", "x", "me"),
		} {
			if other.Header.Get("Idempotent-Replayed") != "" {
				t.Errorf("%s got a replay", name)
			}
		}
		long := string(make([]byte, 101))
		for range 2 {
			for name, other := range map[string]answer{
				"nobody known": send("POST", "x", ""), "a body too large to look at": send("POST", long, "me"), "PUT": send("PUT", "x", "me"),
			} {
				if other.StatusCode != 200 || other.Header.Get("Idempotent-Replayed") != "" || other.Header.Get("Idempotency-Key-Derived") != "" {
					t.Errorf("%s: %d %v", name, other.StatusCode, other.Header)
				}
			}
		}
		time.Sleep(10 * time.Second)
		if late := send("POST", "x", "me"); late.Header.Get("Idempotent-Replayed") != "" {
			t.Error("after the window it is another operation, but got a replay")
		}
	})
}

// A client that makes a new key for every try is told, or refused.
func TestDuplicatePayloads(t *testing.T) {
	t.Parallel()
	for _, reject := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := bubbleRig(t, backendtest.OK, func(c *proxy.Config) {
				c.DuplicateWindow, c.RejectDuplicates = time.Minute, reject
			})
			send := func(key, body, who string) answer { return r.do("POST", "/pay", key, body, "Authorization: "+who) }
			send("one", "x", "me")
			if a := send("one", "x", "me"); a.Header.Get("Idempotent-Replayed") != "true" || a.Header.Get("Idempotency-Duplicate") != "" {
				t.Errorf("a proper retry: %v", a.Header)
			}
			a := send("two", "x", "me")
			if reject {
				r.isProblem(a, 409, "duplicate-payload")
				r.executions("two", 0)
				r.isProblem(send("two", "x", "me"), 409, "duplicate-payload")
			} else {
				if a.StatusCode != 200 || a.Header.Get("Idempotency-Duplicate") != "true" {
					t.Errorf("a second key: %d %v", a.StatusCode, a.Header)
				}
				r.executions("two", 1)
			}
			for name, other := range map[string]answer{
				"another payload": send("three", "y", "me"), "another caller": send("four", "x", "you"),
				"a caller who is not known": r.do("POST", "/pay", "five", "x"), "another such": r.do("POST", "/pay", "six", "x"),
				"another host": r.do("POST", "/pay", "seven", "x", "Authorization: me", "Host: b.example"),
			} {
				if other.StatusCode != 200 || other.Header.Get("Idempotency-Duplicate") != "" {
					t.Errorf("%s: %d %v", name, other.StatusCode, other.Header)
				}
			}
			time.Sleep(2 * time.Minute)
			if late := send("eight", "x", "me"); late.StatusCode != 200 || late.Header.Get("Idempotency-Duplicate") != "" {
				t.Errorf("after the window: %d %v", late.StatusCode, late.Header)
			}
		})
	}
}

// A payload whose operation was not executed does not make a duplicate of the next
// one; one that may have been does, also while it runs and after its proxy died.
func TestDuplicatesOfWhatWasNotExecuted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy    idem.Ambiguity
		first     func(c backendtest.Conn, q *backendtest.Request)
		duplicate bool
	}{
		"an expired token": {idem.AmbiguousHold, answers(401), false},
		"busy":             {idem.AmbiguousHold, answers(503), false},
		"cut, hold":        {idem.AmbiguousHold, func(c backendtest.Conn, _ *backendtest.Request) { c.Reset() }, true},
		"cut, release":     {idem.AmbiguousRelease, func(c backendtest.Conn, _ *backendtest.Request) { c.Reset() }, false},
		"refused for good": {idem.AmbiguousHold, answers(400), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := bubbleRig(t, func(b backendtest.Conn, q *backendtest.Request) {
					if q.Header.Get("Idempotency-Key") == "one" {
						c.first(b, q)
						return
					}
					backendtest.OK(b, q)
				}, func(p *proxy.Config) {
					p.DuplicateWindow, p.RejectDuplicates, p.Policy.OnAmbiguous = time.Minute, true, c.policy
				})
				r.do("POST", "/pay", "one", "x", "Authorization: me")
				a := r.do("POST", "/pay", "two", "x", "Authorization: me")
				if refused := a.StatusCode == 409; refused != c.duplicate {
					t.Errorf("the same payload under a second key: %d", a.StatusCode)
				}
				time.Sleep(2 * time.Minute)
				if late := r.do("POST", "/pay", "three", "x", "Authorization: me"); late.StatusCode != 200 {
					t.Errorf("after the window: %d", late.StatusCode)
				}
			})
		})
	}
}

func answers(status int) func(backendtest.Conn, *backendtest.Request) {
	return func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(status, "") }
}

// What breaks without a key does not invite its client to do it again.
func TestCutWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	a := r.do("POST", "/pay", "", "x")
	r.isProblem(a, 502, "backend-cut-no-key")
	if !strings.Contains(a.body, `"retryable":false`) {
		t.Errorf("%s", a.body)
	}
	slow := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { untilClosed(c) },
		func(c *proxy.Config) { c.BackendTimeout = 50 * time.Millisecond })
	slow.isProblem(slow.do("POST", "/pay", "", "x"), 504, "backend-cut-no-key")
}
