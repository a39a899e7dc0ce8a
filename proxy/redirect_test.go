package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// follow sends as curl -L does: it repeats the request, key and all, where a 307 or
// 308 leads. It returns what it was answered on its way.
func (r *rig) follow(path, key, body string) (statuses string, last answer) {
	r.t.Helper()
	client := *r.client
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		statuses += fmt.Sprint(req.Response.StatusCode, " ")
		if len(via) > 8 {
			return http.ErrUseLastResponse
		}
		return nil
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", key)
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return statuses + fmt.Sprint(resp.StatusCode), answer{resp, string(b)}
}

// slashes is a backend that wants a slash at the end of each path, as FastAPI does.
func slashes(c backendtest.Conn, q *backendtest.Request) {
	switch path := q.URL.Path; {
	case strings.HasPrefix(path, "/hop"):
		var n int
		_, _ = fmt.Sscanf(path, "/hop%d", &n)
		c.Answer(307, "", fmt.Sprintf("Location: hop%d", n+1))
	case path == "/away":
		c.Answer(308, "", "Location: https://other.example/pay/#there")
	case path == "/nowhere":
		c.Answer(308, "", "Location: ftp://other.example/pay/")
	case !strings.HasSuffix(path, "/"):
		c.Answer(308, "", "Location: http://"+q.Host+path+"/")
	default:
		c.Answer(201, fmt.Sprint("executed ", q.URL.Path))
	}
}

// A kept redirect lets its Location be reached under the same key: once, and a
// retry from the start meets the same redirect, and the same response.
func TestRedirectsAreFollowed(t *testing.T) {
	t.Parallel()
	r := newRig(t, slashes)
	for n := range 3 {
		statuses, last := r.follow("/pay", "k", "x")
		if statuses != "308 201" || last.body != "executed /pay/" || (last.Header.Get("Idempotent-Replayed") == "true") != (n > 0) {
			t.Errorf("try %d: %s %q %v", n, statuses, last.body, last.Header)
		}
	}
	r.executions("k", 2) // the redirect, and the operation
	r.outcome(proxy.Executed, 2)
	r.outcome(proxy.ReplayedStore, 4)
	// Another payload there is no continuation, and neither is another target, method
	// or caller.
	r.isProblem(r.do("POST", "/pay/", "k", "other"), 422, "key-reused")
	r.isProblem(r.do("POST", "/other/", "k", "x"), 422, "key-reused")
	r.isProblem(r.do("POST", "/pay/?q", "k", "x"), 422, "key-reused")
	r.isProblem(r.do("POST", "/pay/", "k", "x", "Host: other.example"), 422, "key-reused")
	r.isProblem(r.do("PUT", "/pay/", "k", "x"), 422, "key-reused")
	r.isProblem(r.do("POST", "/pay/", "k", "x", "Authorization: you"), 422, "key-of-another-caller")
	r.executions("k", 2)
}

// A step of the way whose record cannot be compared makes no other request of the one that
// comes: that it were one is final.
func TestRedirectOfARecipeThatIsNotKnown(t *testing.T) {
	t.Parallel()
	store := storetest.NewMemory()
	one, two := []byte("one secret, and long"), []byte("another secret, and long")
	first := newRig(t, slashes, sharing(t, store), func(c *proxy.Config) { c.Secret = one })
	second := newRig(t, slashes, sharing(t, store), func(c *proxy.Config) { c.Secret, c.EarlierSecrets = two, [][]byte{one} })
	third := newRig(t, slashes, sharing(t, store), func(c *proxy.Config) {
		c.Secret, c.RecipeUnread = one, func(idem.Recipe) bool { return true }
	})
	const host = "Host: one.example"
	if a := first.do("POST", "/hop1", "k", "x", host); a.StatusCode != 307 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := second.do("POST", "/hop2", "k", "x", host); a.StatusCode != 307 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	third.isProblem(third.do("POST", "/hop3", "k", "x", host), 500, "store-unavailable")
}

// Only the same request follows a redirect, also if it is the first one there.
func TestOthersDoNotFollowRedirects(t *testing.T) {
	t.Parallel()
	r := newRig(t, slashes)
	const host, me = "Host: a.example", "Authorization: me"
	if a := r.post("k", "x", host, me); a.StatusCode != 308 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	r.isProblem(r.do("POST", "/pay/", "k", "other", host, me), 422, "key-reused")
	r.isProblem(r.do("PUT", "/pay/", "k", "x", host, me), 422, "key-reused")
	r.isProblem(r.do("POST", "/pay/", "k", "x", host, me, "Content-Type: a/b"), 422, "key-reused")
	r.isProblem(r.do("POST", "/pay/", "k", "x", host, "Authorization: you"), 422, "key-of-another-caller")
	r.executions("k", 1)
	if a := r.do("POST", "/pay/", "k", "x", host, me); a.StatusCode != 201 {
		t.Errorf("the one that does: %d %s", a.StatusCode, a.body)
	}
	r.executions("k", 2)
}

// What was redirected fails as any other operation does: its key is free again.
func TestRedirectedAndTryAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if strings.HasSuffix(q.URL.Path, "/") && q.Number == 2 {
			c.Answer(503, "later")
			return
		}
		slashes(c, q)
	})
	for _, want := range []string{"308 503", "308 201", "308 201"} {
		if statuses, last := r.follow("/pay", "k", "x"); statuses != want {
			t.Errorf("%s %s, want %s", statuses, last.body, want)
		}
	}
	r.executions("k", 3)
}

func TestRedirectsElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, slashes)
	r.do("POST", "/away", "k", "x", "Host: here.example")
	for range 2 {
		if a := r.do("POST", "/pay/", "k", "x", "Host: Other.Example:443"); a.StatusCode != 201 {
			t.Errorf("at the other host: %d %s", a.StatusCode, a.body)
		}
	}
	r.isProblem(r.do("POST", "/pay/", "k", "x", "Host: here.example"), 422, "key-reused")
	r.executions("k", 2)
	r.do("POST", "/nowhere", "l", "x", "Host: here.example")
	r.isProblem(r.do("POST", "/pay/", "l", "x", "Host: other.example"), 422, "key-reused")
	r.executions("l", 1)
}

// Chains are followed, up to a bound.
func TestRedirectsInARow(t *testing.T) {
	t.Parallel()
	r := newRig(t, slashes)
	for range 2 {
		if statuses, last := r.follow("/hop0", "k", "x"); statuses != "307 307 307 307 307 307 422" {
			t.Errorf("%s %s", statuses, last.body)
		}
		r.executions("k", 6)
	}
}

// Where the fingerprint does not tell the two targets apart, the redirect would
// be replayed to who follows it, for ever.
func TestRedirectsThatFingerprintsDoNotSee(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.Header.Get("X-Forwarded-Proto") == "http" || q.Host == "old.example" {
			c.Answer(308, "", "Location: https://new.example"+q.URL.RequestURI())
			return
		}
		c.Answer(201, "executed")
	}, func(c *proxy.Config) {
		c.Fingerprint = mustFingerprint(t, "method", "target", "any-host", "body")
		c.TrustedProxies = loopback()
	})
	for range 2 {
		if a := r.post("k", "x", "Host: old.example", "X-Forwarded-Proto: http"); a.StatusCode != 308 {
			t.Errorf("the redirect: %d %s", a.StatusCode, a.body)
		}
		if a := r.post("k", "x", "Host: new.example", "X-Forwarded-Proto: https"); a.StatusCode != 201 {
			t.Errorf("the operation: %d %s", a.StatusCode, a.body)
		}
	}
	r.executions("k", 2)
	// From http to https nothing else changes.
	for range 2 {
		if a := r.post("l", "x", "Host: new.example", "X-Forwarded-Proto: http"); a.StatusCode != 308 {
			t.Errorf("the redirect: %d %s", a.StatusCode, a.body)
		}
		if a := r.post("l", "x", "Host: new.example", "X-Forwarded-Proto: https"); a.StatusCode != 201 {
			t.Errorf("the operation: %d %s", a.StatusCode, a.body)
		}
	}
	r.executions("l", 2)
}

// A redirect is followed by the recipe that its record was made by, and under the
// names of earlier scopes, too.
func TestRedirectsAfterAChangeOfSettings(t *testing.T) {
	t.Parallel()
	var texts sync.Map
	before := newRig(t, slashes, func(c *proxy.Config) {
		c.Recipes = func(r idem.Recipe) (string, bool) {
			text, ok := texts.Load(r)
			if !ok {
				return "", false
			}
			return text.(string), true //nolint:forcetypeassert // see below
		}
	})
	store := before.store
	after := newRig(t, slashes, sharing(t, store), knowing(before.server.RecipeTexts()), func(c *proxy.Config) {
		var err error
		if c.EarlierScopes, err = caller.ParseEarlierScopes([]string{"none"}); err != nil {
			t.Fatal(err)
		}
		c.Scope = mustScope(t, "host")
		c.BindHeaders = []string{"X-Who"}
	})
	for r, text := range after.server.RecipeTexts() {
		texts.Store(r, text)
	}
	const host = "Host: a.example"
	if a := before.post("k", "x", host); a.StatusCode != 308 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	for range 2 {
		if a := after.do("POST", "/pay/", "k", "x", host); a.StatusCode != 201 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
	after.executions("k", 1)
	if a := before.do("POST", "/pay/", "k", "x", host); a.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("with the settings of before: %d %s", a.StatusCode, a.body)
	}
	before.executions("k", 1)
	var record *idem.Record
	_ = store.List(t.Context(), func(r *idem.Record) bool {
		if strings.HasPrefix(r.Key.Scope(), "\x1eredirect\x1f") {
			record = r
		}
		return true
	})
	if record == nil {
		t.Error("the continuation has no scope of the proxy's own")
	}
}
