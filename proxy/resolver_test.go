package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// cutFirst breaks off the first request of each key, and answers the others.
func cutFirst(c backendtest.Conn, q *backendtest.Request) {
	if q.Number == 1 {
		_ = c.Close()
		return
	}
	backendtest.OK(c, q)
}

// The backend says what became of a key whose outcome is unknown.
//
//nolint:tparallel // one resolver for all
func TestResolver(t *testing.T) {
	t.Parallel()
	var answer atomic.Pointer[http.HandlerFunc]
	resolver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) }))
	t.Cleanup(resolver.Close)
	for name, c := range map[string]struct {
		answer     http.HandlerFunc
		status     int
		body       string // "" for a problem
		replayed   bool
		executions int
	}{
		"executed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-A", "1")
			w.Header().Set("Set-Cookie", "secret=1")
			w.Header().Set("Idempotency-Status", "201")
			_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Idempotency-Key"))
		}, 201, "GET /did?service=a&key=a+key a key", true, 1},
		"executed, no status said": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("done")) }, 200, "done", true, 1},
		"not executed":             {http.NotFound, 200, "execution 2", false, 2},
		"unknown to it, too":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 409, "", false, 1},
		"broken":                   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 409, "", false, 1},
		"a bad status": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Status", "20O")
		}, 409, "", false, 1},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat("x", 2000)))
		}, 409, "", false, 1},
		"cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 409, "", false, 1},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // one resolver
			answer.Store(&c.answer)
			r := newRig(t, cutFirst, hold, func(cfg *proxy.Config) {
				var err error
				if cfg.Resolver, err = proxy.NewHTTPResolver(resolver.URL+"/did?service=a", 5*time.Second, 1000); err != nil {
					t.Fatal(err)
				}
			})
			// A retry may be answered, so both say that it is worth one.
			first := r.post("a key", "x")
			r.isProblem(first, 502, "outcome-resolvable")
			isRetryable(t, first, true)
			a := r.post("a key", "x")
			if c.body == "" {
				r.isProblem(a, c.status, "outcome-resolvable")
				isRetryable(t, a, true)
			} else if a.StatusCode != c.status || a.body != c.body || (a.Header.Get("Idempotent-Replayed") == "true") != c.replayed {
				t.Errorf("got %d %q %v", a.StatusCode, a.body, a.Header)
			}
			if a.Header.Get("Set-Cookie") != "" || a.Header.Get("Idempotency-Status") != "" {
				t.Errorf("replayed %v", a.Header)
			}
			if c.body != "" {
				if again := r.post("a key", "x"); again.body != c.body || again.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("again: %d %q", again.StatusCode, again.body)
				}
			}
			r.executions("a key", c.executions)
		})
	}
}

// An operator is faster than the resolver.
func TestResolverComesSecond(t *testing.T) {
	t.Parallel()
	var r *rig
	resolver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := r.store.Resolve(context.Background(), mustKey("k"), idem.Owner{}, &idem.Response{Status: 201, Body: []byte("by hand")}); err != nil {
			t.Error(err)
		}
		w.WriteHeader(404)
	}))
	t.Cleanup(resolver.Close)
	r = newRig(t, cutFirst, hold, func(cfg *proxy.Config) {
		var err error
		if cfg.Resolver, err = proxy.NewHTTPResolver(resolver.URL, 5*time.Second, 1000); err != nil {
			t.Fatal(err)
		}
	})
	r.post("k", "x")
	if a := r.post("k", "x"); a.StatusCode != 201 || a.body != "by hand" {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
	r.executions("k", 1)
}

// Many retries at once are one question, and one execution.
func TestResolverIsAskedOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	enough := make(chan struct{})
	resolver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		<-enough
		w.WriteHeader(404)
	}))
	t.Cleanup(resolver.Close)
	r := newRig(t, cutFirst, hold, func(cfg *proxy.Config) {
		cfg.MaxWait, cfg.Wait = time.Minute, true
		var err error
		if cfg.Resolver, err = proxy.NewHTTPResolver(resolver.URL, 30*time.Second, 1000); err != nil {
			t.Fatal(err)
		}
	})
	r.post("k", "x")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a, err := r.try("POST", "/pay", "k", "x"); err != nil || a.StatusCode != 200 && a.StatusCode != 409 {
				t.Errorf("%d, %v", a.StatusCode, err)
			}
		})
	}
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(enough)
	wg.Wait()
	r.executions("k", 2)
	if n := asked.Load(); n > 3 { // who came late asks once more, at most
		t.Errorf("asked %d times", n)
	}
}

// What became of a key is told, once, when a resolver has said it; and of a request whose
// question it did not answer, why.
func TestWhatAResolverSaysIsTold(t *testing.T) {
	t.Parallel()
	for status, want := range map[int][]string{200: {"k: executed true"}, 404: {"k: executed false"}, 500: nil} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			resolver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			t.Cleanup(resolver.Close)
			x, reports := &told{}, make(chan proxy.Report, 2)
			r := newRig(t, cutFirst, hold, reporting(reports), func(c *proxy.Config) {
				c.Trace.Resolved = func(key idem.Key, executed bool) { x.add("%s: executed %v", key.Value(), executed) }
				var err error
				if c.Resolver, err = proxy.NewHTTPResolver(resolver.URL, 5*time.Second, 1000); err != nil {
					t.Fatal(err)
				}
			})
			r.post("k", "x")
			<-reports
			r.post("k", "x")
			x.is(t, want...)
			if got := <-reports; (got.Err != nil) != (status == 500) || got.Settlement != proxy.NotSettled {
				t.Errorf("told: error %v, settlement %v", got.Err, got.Settlement)
			}
		})
	}
}

func TestResolverURLsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "localhost:1", "ftp://x/", "http://", "http://u:p@x/", "http://x/#y", "/did"} {
		if _, err := proxy.NewHTTPResolver(u, time.Second, 1); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
}

// What cannot be asked is refused with what to write instead, and no password.
func TestURLsThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://user:hunter2@h/x": "without user and password", "https://hunter2@h/": "without user and password",
		"http://h/x#hunter2": "without a fragment", "ftp://h/x?hunter2": "such as http://host:port/path", "h/x": "such as http://host:port/path",
		"http://": "such as http://host:port/path", "http://h:99999/x": "such as http://host:port/path",
	} {
		_, err := proxy.NewHTTPResolver(url, time.Second, 1)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want one %s", url, err, want)
		}
	}
}

// isRetryable holds what a problem says of a retry against want.
func isRetryable(t *testing.T, a answer, want bool) {
	t.Helper()
	if !strings.Contains(a.body, fmt.Sprintf(`"retryable":%v`, want)) {
		t.Errorf("want retryable %v: %s", want, a.body)
	}
}
