package page_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// shopWithRecipe is an origin whose page may use docs/clients.md's recipe as it is printed there.
func shopWithRecipe(t *testing.T) *httptest.Server {
	t.Helper()
	recipe, err := os.ReadFile("../../docs/examples/clients/retry.mjs")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/retry.mjs" {
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = w.Write(recipe)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><link rel=icon href=data:,><title>shop</title><h1>shop</h1>"))
	}))
	t.Cleanup(s.Close)
	return s
}

// bought is what the recipe returns to a page's script.
func bought(t *testing.T, url, key string) (action chromedp.Action, text *string) {
	t.Helper()
	text = new(string)
	call := "import('/retry.mjs').then((m) => m.post(" + quote(t, url) + ", " + quote(t, key) + ", '7')).then((a) => a.join(' '))"
	return chromedp.Evaluate(call, text, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }), text
}

// The JavaScript recipe in a real browser, from another origin, through a proxy: the backend is busy first, then
// charges once, and what was stored is final.
func TestRecipeInABrowser(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.Number == 1 {
			c.Answer(503, "later")
			return
		}
		c.Answer(500, "made "+string(q.Payload))
	})
	shop := shopWithRecipe(t)
	a, _ := served(t, func(c *config.Config) {
		c.CORSOrigins = []string{shop.URL}
		orders := config.NamedUpstream{Name: "orders", Upstream: c.Upstream}
		orders.Backends = []string{b.URL()}
		c.Upstreams = []config.NamedUpstream{orders}
		c.Routes = []config.Route{{Name: "orders", Rules: c.Rules, Path: "/orders", Upstream: "orders"}}
	})
	ctx := browser(t)
	run(t, ctx, "the shop", chromedp.Navigate(shop.URL), shows("h1", "shop"))
	for range 2 {
		buy, text := bought(t, a.URL()+"/orders", "op-1")
		run(t, ctx, "the recipe", buy)
		if *text != "500 made 7" || b.Executions("op-1") != 2 {
			t.Errorf("%q, and %d requests reached the backend, want 2", *text, b.Executions("op-1"))
		}
	}
}

// In a browser the recipe counts its tries as elsewhere: it reads what CORS lets it read.
func TestRecipeCountsTriesInABrowser(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	shop := shopWithRecipe(t)
	run(t, ctx, "the shop", chromedp.Navigate(shop.URL), shows("h1", "shop"))
	problem := func(retryable bool) string { return fmt.Sprintf(`{"type":"about:blank","retryable":%v}`, retryable) }
	for name, c := range map[string]struct {
		status   int
		problem  string
		replayed bool
		tries    int32
	}{
		"held":                 {409, problem(false), false, 1},
		"in progress":          {409, problem(true), false, 2},
		"a stored 503":         {503, "", true, 1},
		"a 500 of the backend": {500, "", false, 1},
		"backend busy":         {503, "", false, 2},
	} {
		var tries atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", shop.URL)
			h.Set("Access-Control-Allow-Headers", "Idempotency-Key, Content-Type")
			h.Set("Access-Control-Expose-Headers", "Idempotent-Replayed, Retry-After")
			switch {
			case r.Method == http.MethodOptions:
			case tries.Add(1) > 1:
				w.WriteHeader(http.StatusCreated)
			default:
				if c.replayed {
					h.Set("Idempotent-Replayed", "true")
				}
				if c.problem != "" {
					h.Set("Content-Type", "application/problem+json")
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.problem))
			}
		}))
		buy, text := bought(t, s.URL+"/", "op-1")
		run(t, ctx, name, buy)
		want := fmt.Sprint(c.status)
		if c.tries > 1 {
			want = "201"
		}
		if tries.Load() != c.tries || !strings.HasPrefix(*text, want) {
			t.Errorf("%s: %d tries, want %d: %s", name, tries.Load(), c.tries, *text)
		}
		s.Close()
	}
}
