package page_test

import (
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
const script = `async (url, key) => {
	try {
		const a = await fetch(url, {method: "POST", body: new TextEncoder().encode("x"), headers: {"Idempotency-Key": key}});
		const body = await a.text(), h = a.headers;
		let problem = {};
		if ((h.get("Content-Type") || "").includes("problem")) problem = JSON.parse(body);
		return JSON.stringify({Status: a.status, Retryable: problem.retryable, Key: problem.idempotency_key || "", Body: body,
			RetryAfter: h.get("Retry-After") || "", Replayed: h.get("Idempotent-Replayed") || "",
			RequestID: h.get("X-Request-Id") || "", Own: h.get("X-Own") || ""});
	} catch (e) { return JSON.stringify({Failed: String(e)}); }
}`

// A script of another origin, in a real browser, sends a key and reads what is
// answered, by the backend and by this proxy; a script of a page that was not named
// reads nothing, and nothing of it is executed.
func TestScriptsOfOtherOrigins(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><link rel=icon href=data:,><title>shop</title><h1>shop</h1>"))
	})
	shop, stranger := httptest.NewServer(page), httptest.NewServer(page)
	t.Cleanup(shop.Close)
	t.Cleanup(stranger.Close)
	a, ask := served(t, func(c *config.Config) { c.CORSOrigins = []string{shop.URL} })
	ctx := browser(t)
	say := func(path, key string) (h heard) {
		t.Helper()
		var text string
		call := "(" + script + ")(" + quote(t, a.URL()+path) + "," + quote(t, key) + ")"
		run(t, ctx, path+" with "+key, chromedp.Evaluate(call, &text, func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
			return p.WithAwaitPromise(true)
		}))
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return h
	}
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

func quote(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
