package page_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/idemproxy/idemproxy/config"
)

// heard is what a script can tell of an answer.
type heard struct {
	Status                      int
	Retryable                   any
	RetryAfter, Replayed, Body  string
	RequestID, Own, Failed, Key string
}

// script sends a request with a key as a page of the shop would.
const script = `async (method, url, key) => {
	try {
		const body = method == "POST" ? new TextEncoder().encode("x") : undefined;
		const a = await fetch(url, {method, body, headers: {"Idempotency-Key": key}});
		const text = await a.text(), h = a.headers;
		let problem = {};
		if ((h.get("Content-Type") || "").includes("problem")) problem = JSON.parse(text);
		return JSON.stringify({Status: a.status, Retryable: problem.retryable, Key: problem.idempotency_key || "", Body: text,
			RetryAfter: h.get("Retry-After") || "", Replayed: h.get("Idempotent-Replayed") || "",
			RequestID: h.get("X-Request-Id") || "", Own: h.get("X-Own") || ""});
	} catch (e) { return JSON.stringify({Failed: String(e)}); }
}`

// A script of another origin, in a real browser, sends a key and reads what is
// answered, by the backend and by this proxy; a script of a page that was not named
// reads nothing, and nothing of it is executed.
func TestScriptsOfOtherOrigins(t *testing.T) {
	t.Parallel()
	shop, stranger := aPage(t), aPage(t)
	a, ask := served(t, func(c *config.Config) { c.CORSOrigins = []string{shop.URL} })
	ctx := browser(t)
	say := func(path, key string) heard { t.Helper(); return fetched(t, ctx, "POST", a.URL()+path, key) }
	run(t, ctx, "a page of the shop", chromedp.Navigate(shop.URL), shows("h1", "shop"))
	if h := say("/slow", "running-1"); h.Status != 409 || h.Retryable != true || h.RetryAfter != "1" || h.Key != "running-1" || h.RequestID == "" {
		t.Errorf("in progress: %+v", h)
	}
	if h := say("/pay", "held-1"); h.Status != 422 || h.Retryable != false {
		t.Errorf("another target: %+v", h)
	}
	if h := say("/pay", "order-0"); h.Status != 201 || h.Replayed != "true" || h.Body != `{"charge": "<b>ch_7</b>"}` {
		t.Errorf("a replay: %+v", h)
	}
	if h := say("/pay", "of-a-script"); h.Status != 201 || h.Replayed != "" {
		t.Errorf("executed: %+v", h)
	}
	run(t, ctx, "a page of a stranger", chromedp.Navigate(stranger.URL), shows("h1", "shop"))
	if h := say("/cut", "of-a-stranger"); h.Failed == "" {
		t.Errorf("a stranger reads %+v", h)
	}
	if status := ask("/pay", "of-a-stranger", "x"); status != 201 {
		t.Errorf("what a stranger's script sent was taken: %d", status)
	}
}

// A browser remembers what a preflight for a GET with a key allowed, and goes by it for a
// POST. A page that may only GET does not get a POST executed by that.
func TestPreflightsThatABrowserRemembers(t *testing.T) {
	t.Parallel()
	shop, stranger := aPage(t), aPage(t)
	a, ask := served(t, func(c *config.Config) {
		c.CORSOrigins = []string{shop.URL}
		c.Routes = []config.Route{{Name: "reading", Rules: c.Rules, Path: "/pay", Methods: []string{"GET"}}}
		c.Routes[0].CORSOrigins = []string{"*"}
	})
	ctx := browser(t)
	run(t, ctx, "a page of a stranger", chromedp.Navigate(stranger.URL), shows("h1", "shop"))
	if h := fetched(t, ctx, "GET", a.URL()+"/pay", "read-1"); h.Failed != "" || h.Status != 201 {
		t.Errorf("what a stranger may read: %+v", h)
	}
	if h := fetched(t, ctx, "POST", a.URL()+"/pay", "posted-1"); h.Failed == "" {
		t.Errorf("a stranger reads %+v", h)
	}
	if status := ask("/pay", "posted-1", "another payload"); status != 201 {
		t.Errorf("what a stranger's script posted was taken: %d", status)
	}
}

// aPage is an origin of its own.
func aPage(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><link rel=icon href=data:,><title>shop</title><h1>shop</h1>"))
	}))
	t.Cleanup(s.Close)
	return s
}

// fetched is what a script of the page that is open can tell of an answer.
func fetched(t *testing.T, ctx context.Context, method, url, key string) (h heard) { //nolint:revive // t first, as elsewhere
	t.Helper()
	var text string
	call := "(" + script + ")(" + quote(t, method) + "," + quote(t, url) + "," + quote(t, key) + ")"
	run(t, ctx, method+" "+url+" with "+key, chromedp.Evaluate(call, &text, func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}))
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return h
}

func quote(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
