package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

const shop, other = "https://shop.example", "https://evil.example"

// theShop lets scripts of the shop in.
func theShop(c *proxy.Config) {
	c.CORS = proxy.CORS{
		Origins: []string{shop, "https://*.shop.example", "http://localhost:5173"}, Methods: []string{"GET", "POST"},
		Headers: []string{"X-Trace"}, Exposed: []string{"ETag"}, MaxAge: 10 * time.Minute,
	}
}

// ownCORS is a backend that has its own opinion of origins.
func ownCORS(c backendtest.Conn, q *backendtest.Request) {
	c.Answer(200, "x", "Link: a", "access-control-allow-origin: https://first.example", "Access-Control-Expose-Headers: x-own",
		"Access-Control-Allow-Credentials: true", "Link: b", "Vary: Accept", "X-Method: "+q.Method)
}

// shared says what a script of another origin is told.
func shared(a answer) string {
	h := a.Header
	return fmt.Sprint(a.StatusCode, " ", strings.Join(h.Values("Access-Control-Allow-Origin"), "+"), " ",
		strings.Join(h.Values("Vary"), "+"), " ", strings.Join(h.Values("Access-Control-Allow-Credentials"), "+"))
}

func exposes(a answer, name string) bool {
	lines := a.Header.Values("Access-Control-Expose-Headers")
	return len(lines) == 1 && slices.Contains(strings.Split(lines[0], ", "), name)
}

// Whatever a script of an allowed origin is answered, by the backend, from the store
// or by this proxy, it may read, and a script of another origin may not. What the
// backend says of origins does not count, nor what was said to the first.
func TestCORS(t *testing.T) {
	t.Parallel()
	r := newRig(t, ownCORS, theShop, func(c *proxy.Config) { c.MaxRequestBody = 100 })
	steps := []struct{ name, key, body, origin, want string }{
		{"executed", "k", "x", shop, "200 " + shop + " Accept+Origin "},
		{"a replay to another of them", "k", "x", "https://a.b.shop.example", "200 https://a.b.shop.example Accept+Origin "},
		{"a replay to a third", "k", "x", "http://localhost:5173", "200 http://localhost:5173 Accept+Origin "},
		{"a replay to a stranger", "k", "x", other, "200  Accept+Origin "},
		{"a replay to no script", "k", "x", "", "200  Accept+Origin "},
		{"another payload", "k", "y", shop, "422 " + shop + " Origin "},
		{"too large", "l", strings.Repeat("x", 101), shop, "413 " + shop + " Origin "},
		{"a bad key", "a\tb", "x", shop, "400 " + shop + " Origin "},
		{"no key", "", "x", shop, "200 " + shop + " Accept+Origin "},
		{"no key, a stranger", "", "x", other, "200  Accept+Origin "},
		{"nearly", "", "x", "https://evilshop.example", "200  Accept+Origin "},
		{"another scheme", "", "x", "http://shop.example", "200  Accept+Origin "},
		{"another port", "", "x", "https://shop.example:8443", "200  Accept+Origin "},
		{"with more behind it", "", "x", shop + ".evil.example", "200  Accept+Origin "},
		{"a name that is none", "", "x", "https://evil.example/.shop.example", "200  Accept+Origin "},
		{"nothing below", "", "x", "https://.shop.example", "200  Accept+Origin "},
		{"null", "", "x", "null", "200  Accept+Origin "},
	}
	for _, c := range steps {
		var header []string
		if c.origin != "" {
			header = []string{"Origin: " + c.origin}
		}
		a := r.post(c.key, c.body, header...)
		if got := shared(a); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		for _, name := range []string{"Idempotent-Replayed", "Retry-After", "X-Request-Id", "ETag"} {
			if exposes(a, name) != strings.Contains(c.want, "http") {
				t.Errorf("%s: %s is not exposed as it should be: %v", c.name, name, a.Header)
			}
		}
		if links := a.Header.Values("Link"); a.StatusCode == 200 && !slices.Equal(links, []string{"a", "b"}) {
			t.Errorf("%s: the order of fields is another: %v", c.name, links)
		}
	}
	if a := r.post("", "x", "Origin: "+shop, "Origin: "+shop); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("two origins are taken for one")
	}
}

// Preflights are answered here, by the route that the request would take, and reach
// no backend.
func TestPreflights(t *testing.T) {
	t.Parallel()
	r := newRig(t, ownCORS, func(c *proxy.Config) {
		c.RequireKey = true
		open := c.Rules
		shopping := proxy.Config{}
		theShop(&shopping)
		open.CORS, open.KeyHeaders = shopping.CORS, []string{"X-Key"}
		c.Routes = []proxy.Route{{Name: "pay", Match: proxy.Match{Path: "/pay/*", Methods: []string{"POST"}}, Rules: open}}
	})
	ask := func(path, origin, method, headers string) answer {
		header := []string{"Origin: " + origin, "Access-Control-Request-Method: " + method}
		if headers != "" {
			header = append(header, "Access-Control-Request-Headers: "+headers)
		}
		return r.do("OPTIONS", path, "", "", header...)
	}
	a := ask("/pay/1", shop, "POST", "x-key, content-type,authorization, X-TRACE,prefer")
	h := a.Header
	if got := shared(a); got != "204 "+shop+" Access-Control-Request-Method, Access-Control-Request-Headers+Origin " ||
		h.Get("Access-Control-Allow-Methods") != "POST" || h.Get("Access-Control-Max-Age") != "0" || h.Get("X-Request-Id") == "" {
		t.Errorf("%q %v", got, h)
	}
	allowed := strings.Split(h.Get("Access-Control-Allow-Headers"), ", ")
	for _, name := range []string{"X-Key", "Content-Type", "Authorization", "X-Trace", "Prefer"} {
		if !slices.Contains(allowed, name) {
			t.Errorf("%s may not be sent: %q", name, allowed)
		}
	}
	for name, c := range map[string]struct{ origin, method, headers, says string }{
		"a stranger": {other, "POST", "x-key", "evil.example"}, "a header": {shop, "POST", "content-type,x-other", "x-other"},
		"no header": {shop, "POST", "a b", "a b"}, "two of one": {shop, "POST", "x-key,,x-key", ""},
	} {
		a := ask("/pay/1", c.origin, c.method, c.headers)
		if c.says == "" {
			if a.StatusCode != 204 {
				t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
			}
			continue
		}
		r.isProblem(a, 403, "origin-not-allowed")
		if !strings.Contains(a.body, c.says) || a.Header.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%s: %v %s", name, a.Header, a.body)
		}
	}
	// The backend's affair: a path or a method of another route, and what is no preflight.
	for name, a := range map[string]answer{
		"another path": ask("/", shop, "POST", ""), "another method": ask("/pay/1", shop, "GET", ""),
		"no method":    r.do("OPTIONS", "/pay/1", "", "", "Origin: "+shop),
		"no origin":    r.do("OPTIONS", "/pay/1", "", "", "Access-Control-Request-Method: POST"),
		"a POST of it": r.do("POST", "/pay/1", "", "", "X-Key: k", "Origin: "+shop, "Access-Control-Request-Method: POST"),
	} {
		if a.Header.Get("X-Method") == "" {
			t.Errorf("%s: %d %v", name, a.StatusCode, a.Header)
		}
	}
}

// A browser keeps what a preflight allowed for the URL, and goes by it with other
// methods too, with POST always. So it may keep only what every route of that URL says.
func TestPreflightsAreNotRememberedAcrossRoutes(t *testing.T) {
	t.Parallel()
	origins := func(all ...string) proxy.CORS {
		return proxy.CORS{Origins: all, Methods: []string{"GET", "HEAD", "POST"}, MaxAge: 10 * time.Minute}
	}
	shared := func(rules proxy.Rules, cors proxy.CORS, change ...func(*proxy.Rules)) proxy.Rules {
		rules.CORS = cors
		for _, f := range change {
			f(&rules)
		}
		return rules
	}
	r := newRig(t, ownCORS, func(c *proxy.Config) {
		shops, any := origins(shop), origins("*")
		onlyGET, short, open := any, shops, shops
		onlyGET.Methods, short.MaxAge, open.Credentials = []string{"GET"}, time.Minute, true
		rest := c.Rules
		c.Rules = shared(rest, shops)
		route := func(path string, rules proxy.Rules, methods ...string) {
			c.Routes = append(c.Routes, proxy.Route{Name: path, Match: proxy.Match{Path: path, Methods: methods}, Rules: rules})
		}
		route("/prices/*", shared(rest, any), "GET", "HEAD")
		route("/same/*", shared(rest, shops), "GET", "HEAD")
		route("/shorter/*", shared(rest, short), "GET", "HEAD")
		route("/cookies/*", shared(rest, open), "GET", "HEAD")
		route("/backend/*", shared(rest, proxy.CORS{}), "POST")
		route("/header/*", shared(rest, shops, func(r *proxy.Rules) { r.BindHeaders = []string{"X-More"} }), "GET")
		route("/read/*", shared(rest, onlyGET))
		route("/put/*", shared(rest, shops), "PUT")
	})
	for _, c := range []struct{ path, origin, method, age, methods string }{
		{"/", shop, "GET", "600", "GET, HEAD, POST"},
		{"/prices/1", other, "GET", "0", "GET"},                // may not POST
		{"/prices/1", shop, "POST", "600", "GET, HEAD, POST"},  // and may GET
		{"/same/1", shop, "GET", "600", "GET, HEAD, POST"},     // another route that says the same
		{"/shorter/1", shop, "POST", "60", "GET, HEAD, POST"},  // the shorter of the two
		{"/cookies/1", shop, "GET", "0", "GET"},                // may not POST with cookies
		{"/cookies/1", shop, "POST", "600", "GET, HEAD, POST"}, // and may GET without
		{"/backend/1", shop, "GET", "0", "GET"},                // what the backend says of POST is not known
		{"/header/1", shop, "GET", "0", "GET"},                 // may not POST with X-More
		{"/read/1", other, "GET", "0", "GET"},                  // browsers take POST for allowed
		{"/put/1", shop, "GET", "600", "GET, HEAD, POST"},      // PUT is asked for by itself
	} {
		h := r.do("OPTIONS", c.path, "", "", "Origin: "+c.origin, "Access-Control-Request-Method: "+c.method,
			"Access-Control-Request-Headers: idempotency-key").Header
		if age, methods := h.Get("Access-Control-Max-Age"), h.Get("Access-Control-Allow-Methods"); age != c.age || methods != c.methods {
			t.Errorf("%s %s for %s: %q, kept %s s; want %q, %s s", c.method, c.path, c.origin, methods, age, c.methods, c.age)
		}
	}
}

// Any origin is one that need not be named, and any header and method one that was
// asked for. Credentials come with named origins only.
func TestCORSOfAny(t *testing.T) {
	t.Parallel()
	any := []string{"*"}
	r := newRig(t, ownCORS, func(c *proxy.Config) {
		c.CORS = proxy.CORS{Origins: any, Methods: any, Headers: any, Exposed: any}
	})
	for _, origin := range []string{"Origin: " + other, "Origin: null", "X: 1"} {
		if got := shared(r.post("", "x", origin)); got != "200 * Accept " {
			t.Errorf("%s: %q", origin, got)
		}
	}
	a := r.do("OPTIONS", "/", "", "", "Origin: x", "Access-Control-Request-Method: PURGE", "Access-Control-Request-Headers: authorization,x-any")
	if h := a.Header; a.StatusCode != 204 || h.Get("Access-Control-Allow-Methods") != "PURGE" ||
		h.Get("Access-Control-Allow-Headers") != "authorization,x-any" || h.Get("Access-Control-Max-Age") != "0" {
		t.Errorf("%d %v", a.StatusCode, h)
	}
	r = newRig(t, ownCORS, theShop, func(c *proxy.Config) { c.CORS.Credentials = true })
	if got := shared(r.post("", "x", "Origin: "+shop)); got != "200 "+shop+" Accept+Origin true" {
		t.Errorf("with credentials: %q", got)
	}
	if got := shared(r.post("", "x", "Origin: "+other)); got != "200  Accept+Origin " {
		t.Errorf("a stranger, with credentials: %q", got)
	}
}

// Unless it is told, this proxy says nothing of origins, and changes nothing of what
// backends say.
func TestNoCORS(t *testing.T) {
	t.Parallel()
	r := newRig(t, ownCORS)
	for range 2 {
		if got := shared(r.post("k", "x", "Origin: "+shop)); got != "200 https://first.example Accept true" {
			t.Errorf("%q", got)
		}
	}
	if a := r.do("OPTIONS", "/", "", "", "Origin: "+shop, "Access-Control-Request-Method: POST"); a.Header.Get("X-Method") != "OPTIONS" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

// What was recorded before is replayed without its word of origins, too; responses
// that stream, that are too large to keep, or that break off have the fields.
func TestCORSOfEveryAnswer(t *testing.T) {
	t.Parallel()
	var first proxy.Config
	gone := make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/stream":
			c.Raw("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n")
		case "/large":
			c.Answer(200, strings.Repeat("x", 100<<10), "Access-Control-Allow-Origin: *")
		case "/cut":
			_ = c.Close()
		case "/slow":
			gone <- struct{}{}
			<-gone
			c.Answer(200, "x")
		default:
			ownCORS(c, q)
		}
	}, func(c *proxy.Config) { c.MaxResponseBody = 10 << 10; first = *c })
	if a := r.post("before", "x"); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	next := first
	theShop(&next)
	next.MaxInFlight = 1
	if err := r.server.Reload(next); err != nil {
		t.Fatal(err)
	}
	const origin = "Origin: " + shop
	for name, c := range map[string]struct {
		got  answer
		want string
	}{
		"recorded before": {r.post("before", "x", origin), "200 " + shop + " Accept+Origin "},
		"a stream":        {r.do("GET", "/stream", "", "", origin), "200 " + shop + " Origin "},
		"too large":       {r.do("POST", "/large", "l", "x", origin), "200 " + shop + " Origin "},
		"cut":             {r.do("POST", "/cut", "c", "x", origin), "502 " + shop + " Origin "},
		"HEAD":            {r.do("HEAD", "/", "", "", origin), "200 " + shop + " Accept+Origin "},
	} {
		if got := shared(c.got); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if name == "a stream" && c.got.Trailer.Get("X-Sum") != "7" {
			t.Errorf("its trailers: %v", c.got.Trailer)
		}
	}
	done := make(chan answerOrError, 1)
	go func() {
		a, err := r.try(http.MethodPost, "/slow", "s", "x", origin)
		done <- answerOrError{a, err}
	}()
	<-gone
	if got := shared(r.post("o", "x", origin)); got != "503 "+shop+" Origin " {
		t.Errorf("overloaded: %q", got)
	}
	gone <- struct{}{}
	if a := <-done; a.err != nil || shared(a.answer) != "200 "+shop+" Origin " {
		t.Errorf("%v", a)
	}
	a := r.raw("POST / HTTP/1.1\r\nHost: a\r\norigin: " + shop + "\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
	if got := shared(a); got != "400 "+shop+" Origin " {
		t.Errorf("a body that fails: %q", got)
	}
}

func TestOriginsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, origin := range []string{
		"shop.example", "https://shop.example/", "https://shop.example/a", "https://Shop.example", "https://shop.example:443",
		"http://shop.example:80", "https://*", "https://a.*.example", "https://*shop.example", "https://", "null", "", "https://a b",
		"https://u@shop.example", "https://shop.example?x", "HTTPS://shop.example", "*.shop.example", "https://shop.example:x", "://a",
	} {
		if err := proxy.CheckOrigin(origin); err == nil {
			t.Errorf("%q is taken", origin)
		}
	}
	for _, origin := range []string{
		"*", shop, "http://localhost:5173", "https://*.shop.example", "https://*.shop.example:8443", "http://[::1]:3000",
		"capacitor://localhost", "chrome-extension://abcdef", "http://127.0.0.1", "https://xn--bcher-kva.example",
	} {
		if err := proxy.CheckOrigin(origin); err != nil {
			t.Errorf("%q: %v", origin, err)
		}
	}
	for _, c := range []proxy.CORS{
		{Origins: []string{"shop.example"}}, {Origins: []string{"*"}, Credentials: true},
	} {
		if _, err := proxy.New(proxy.Config{Rules: proxy.Rules{CORS: c}}); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
