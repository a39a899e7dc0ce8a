package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// withFields is a request with some fields more.
func withFields(fields ...string) string {
	return "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\nx"
}

// What only proxies say does not come from a client that is none.
func TestClientsDoNotSpeakForProxies(t *testing.T) {
	t.Parallel()
	names := []string{
		"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Real-IP", "x-real-ip", "X-FORWARDED-PORT",
		"X-Forwarded-By", "X-Forwarded-Uri",
	}
	for _, trusted := range []bool{false, true} {
		b := newRecorder(t, okay)
		r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) {
			if trusted {
				c.TrustedProxies = loopback()
			}
		})
		for _, name := range names { // each a key of its own
			for _, field := range []string{"X-Own: 1", "Idempotency-Key: " + name} {
				if got := status(r.exchange(withFields(field, name+": 203.0.113.9"))); got != "200" {
					t.Fatalf("%s: %s", name, got)
				}
				if got := valuesOf(b.last(), name); len(got) > 0 && !trusted || trusted && !slices.Equal(got, []string{"203.0.113.9"}) {
					t.Errorf("trusted %v, %s: the backend gets %s: %q", trusted, field, name, got)
				}
			}
		}
	}
}

// A backend that takes underscores for dashes reads nothing of a client's in the place
// of what this proxy writes.
func TestTwinsDoNotArrive(t *testing.T) {
	t.Parallel()
	for _, trusted := range []bool{false, true} {
		b := newRecorder(t, okay)
		r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) {
			if trusted {
				c.TrustedProxies = loopback()
			}
		})
		for i, name := range []string{
			"Idempotency_Attempt", "IDEMPOTENCY_ATTEMPT", "idempotency_attempt", "X_Forwarded_For", "X_Forwarded-For", "X-Forwarded_Host", "X_Forwarded_Proto",
			"X_Request_Id", "X-Request_Id", "X_Real_Ip", "X_Forwarded_Port", "Content_Length", "Transfer_Encoding",
		} {
			key := fmt.Sprint("Idempotency-Key: k", i)
			for _, fields := range [][]string{{name + ": 99"}, {key, name + ": 99"}, {key + "b", name + ": 99", name + ": 98"}} {
				if got := status(r.exchange(withFields(fields...))); got != "200" {
					t.Errorf("%v: %s", fields, got)
				}
				if text := b.last(); strings.Contains(text, ": 99\r\n") || strings.Contains(text, ": 98\r\n") {
					t.Errorf("trusted %v, %v: the backend gets %q", trusted, fields, text)
				}
			}
		}
		r.exchange(withFields("X_Own: 99", "my_field: 98"))
		if text := b.last(); !strings.Contains(text, "X_Own: 99\r\n") || !strings.Contains(text, "my_field: 98\r\n") {
			t.Errorf("other fields are gone: %q", text)
		}
	}
}

// Connection takes no field away that the backend is to have.
func TestNominatedRequestID(t *testing.T) {
	t.Parallel()
	b := newRecorder(t, okay)
	r := newRig(t, backendtest.OK, to(b.origin))
	for i, fields := range [][]string{
		{"Connection: X-Request-Id"},
		{"Connection: x-request-id", "X-Request-Id: mine"},
		{"X-Request-Id: mine", "Connection: close, X-Request-Id"},
		{"Connection: X-Hop, X-Request-Id", "X-Hop: 1", "X-Request-Id: mine"},
		{"Connection: X-Forwarded-For, Via, Host, Idempotency-Attempt"},
	} {
		for _, key := range []string{"", fmt.Sprint("Idempotency-Key: n", i)} {
			if key != "" {
				fields = append(fields, key)
			}
			if got := status(r.exchange(withFields(fields...))); got != "200" {
				t.Errorf("%q: %s", fields, got)
			}
			got := valuesOf(b.last(), "X-Request-Id")
			mine := slices.Contains(fields, "X-Request-Id: mine")
			if len(got) != 1 || got[0] == "" || mine != (got[0] == "mine") {
				t.Errorf("%q: the backend gets X-Request-Id %q", fields, got)
			}
			for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "Via", "Host"} {
				if n := len(valuesOf(b.last(), name)); n != 1 {
					t.Errorf("%q: the backend gets %d of %s", fields, n, name)
				}
			}
			if n := len(valuesOf(b.last(), "Idempotency-Attempt")); n != min(len(key), 1) {
				t.Errorf("%q: the backend gets %d of Idempotency-Attempt", fields, n)
			}
			if left := slices.Concat(valuesOf(b.last(), "X-Hop"), valuesOf(b.last(), "Connection")); len(left) > 0 {
				t.Errorf("%q: the backend gets %q", fields, left)
			}
		}
	}
}

// Whatever becomes of a request, its answer says what it is called in logs, once; and
// that is the name that the backend got, or the client gave.
func TestEveryAnswerIsNamed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	b := newRecorder(t, func(q *http.Request, _ string) string {
		switch q.URL.Path {
		case "/chunked":
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + hex(len(long)) + "\r\n" + long + "\r\n0\r\n\r\n"
		case "/long":
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long)
		case "/empty":
			return "HTTP/1.1 204 No Content\r\n\r\n"
		case "/304":
			return "HTTP/1.1 304 Not Modified\r\n\r\n"
		case "/cut":
			return ""
		case "/nonsense":
			return "nonsense\r\n\r\n"
		case "/own":
			return "HTTP/1.1 200 OK\r\nx-request-id: the backend's\r\nContent-Length: 2\r\n\r\nok"
		}
		return okay(nil, "")
	})
	r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) {
		c.MaxResponseBody, c.MaxRequestBody = 50_000, 1000
		strict := c.Rules
		strict.RequireKey = true
		c.Routes = []proxy.Route{{Name: "pay", Match: proxy.Match{Path: "/pay"}, Rules: strict}}
	})
	for _, c := range []struct{ name, text, want string }{
		{"passed", "GET / HTTP/1.1\r\nHost: x\r\n", "200"},
		{"passed, HTTP/1.0", "GET / HTTP/1.0\r\n", "200"},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: x\r\n", "200"},
		{"streamed", "GET /chunked HTTP/1.1\r\nHost: x\r\n", "200"},
		{"long", "GET /long HTTP/1.1\r\nHost: x\r\n", "200"},
		{"204", "POST /empty HTTP/1.1\r\nHost: x\r\nIdempotency-Key: e\r\n", "204"},
		{"304", "GET /304 HTTP/1.1\r\nHost: x\r\n", "304"},
		{"executed", "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n", "200"},
		{"replayed", "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n", "200"},
		{"replayed again", "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n", "200"},
		{"reused", "POST /other HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n", "422"},
		{"keyed, streamed", "POST /chunked HTTP/1.1\r\nHost: x\r\nIdempotency-Key: c\r\n", "200"},
		{"not kept", "POST /chunked HTTP/1.1\r\nHost: x\r\nIdempotency-Key: c\r\n", "409"},
		{"keyed, long", "POST /long HTTP/1.1\r\nHost: x\r\nIdempotency-Key: l\r\n", "200"},
		{"cut", "POST /cut HTTP/1.1\r\nHost: x\r\nIdempotency-Key: cut\r\n", "502"},
		{"cut, without a key", "GET /cut HTTP/1.1\r\nHost: x\r\n", "502"},
		{"malformed response", "GET /nonsense HTTP/1.1\r\nHost: x\r\n", "502"},
		{"bad key", "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key:\r\n", "400"},
		{"no key", "POST /pay HTTP/1.1\r\nHost: x\r\n", "400"},
		{"ambiguous target", "GET //pay HTTP/1.1\r\nHost: x\r\n", "400"},
		{"body too large", "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: b\r\nContent-Length: 2000\r\n", "413"},
		{"CONNECT", "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n", "501"},
		{"no Host", "GET / HTTP/1.1\r\n", "400"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", "400"},
		{"no request", "nonsense\r\n", "400"},
		{"another version", "GET / HTTP/3.0\r\nHost: x\r\n", "505"},
		{"header too large", "GET / HTTP/1.1\r\nHost: x\r\nX: " + long + "\r\n", "431"},
		{"last hop", "TRACE / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n", "200"},
	} {
		for _, own := range []string{"", "X-Request-Id: mine\r\n"} {
			before := len(b.requests())
			got := r.exchange(c.text + own + "Connection: close\r\n\r\n" + strings.Repeat("x", 2000*strings.Count(c.text, "Length: 2000")))
			ids := valuesOf(got, "X-Request-Id")
			keyedOwn := own != "" && strings.Contains(c.text, "Idempotency-Key")
			if status(got) != c.want && !keyedOwn || len(ids) != 1 || ids[0] == "" {
				t.Errorf("%s: %s with X-Request-Id %q, want %s with one", c.name, status(got), ids, c.want)
				continue
			}
			// Of what cannot be framed no field is believed.
			read := !slices.Contains([]string{"no request", "header too large", "no Host", "two lengths", "another version"}, c.name)
			if own != "" && read && ids[0] != "mine" {
				t.Errorf("%s: X-Request-Id %q, want the client's", c.name, ids)
			}
			if len(b.requests()) > before {
				if at := valuesOf(b.last(), "X-Request-Id"); len(at) != 1 || at[0] != ids[0] {
					t.Errorf("%s: the backend got X-Request-Id %q, the client %q", c.name, at, ids)
				}
			}
		}
	}
	for range 2 {
		if ids := valuesOf(r.exchange("POST /own HTTP/1.1\r\nHost: x\r\nIdempotency-Key: own\r\nConnection: close\r\n\r\n"), "X-Request-Id"); len(ids) != 1 {
			t.Errorf("a backend that names its answers: %q", ids)
		}
	}
}

// A replay is named as the request that gets it, not as the one that was executed.
func TestReplayIsNamedAnew(t *testing.T) {
	t.Parallel()
	for _, own := range []string{"", "X-Request-Id: the backend's\r\n"} {
		b := newRecorder(t, always("HTTP/1.1 200 OK\r\n"+own+"Content-Length: 2\r\n\r\nok"))
		r := newRig(t, backendtest.OK, to(b.origin))
		for i, id := range []string{"first", "second", "third"} {
			text := r.exchange(withFields("Idempotency-Key: k", "Connection: close", "X-Request-Id: "+id))
			ids := valuesOf(text, "X-Request-Id")
			if status(text) != "200" || !slices.Equal(ids, []string{id}) && (i > 0 || own == "") {
				t.Errorf("%q, %s: %q", own, id, ids)
			}
		}
	}
}

// asks is a resolver that keeps how it was asked.
func asks(t *testing.T) (origin string, asked chan string) {
	t.Helper()
	asked = make(chan string, 10)
	return rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		var text strings.Builder
		if q, err := http.ReadRequest(bufio.NewReader(io.TeeReader(br, &text))); err == nil {
			_, _ = io.ReadAll(q.Body)
			asked <- text.String()
			_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
	}), asked
}

// isPrintable says of a header as it came that its lines are printable. Tabs stand
// between the sources of a scope.
func isPrintable(text string) bool {
	for line := range strings.SplitSeq(text, "\r\n") {
		if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c > '~' }) {
			return false
		}
	}
	return strings.Count(text, "\r\n\r\n") == 1
}

// A resolver is asked in fields that are printable, whatever the client called itself.
func TestResolverIsAskedInPrintableFields(t *testing.T) {
	t.Parallel()
	resolver, asked := asks(t)
	scope, err := caller.ParseScope([]string{"header:X-Account"})
	if err != nil {
		t.Fatal(err)
	}
	b := newRecorder(t, func(q *http.Request, _ string) string {
		if q.Header.Get("Idempotency-Attempt") == "1" {
			return ""
		}
		return okay(nil, "")
	})
	r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) {
		c.Policy.OnAmbiguous, c.Scope = idem.AmbiguousHold, scope
		if c.Resolver, err = proxy.NewHTTPResolver(resolver+"/did", patience, 1000); err != nil {
			t.Fatal(err)
		}
	})
	for i, account := range []string{"plain", "caf\xc3\xa9", "\xe9\xff", "a\tb", "a b", `a"b\c`, "a%0d%0ab", "a,b;c"} {
		request := withFields("X-Account: "+account, fmt.Sprint("Idempotency-Key: k ", i), "Connection: close")
		if got := status(r.exchange(request)); got == "400" && (!isPrintable(account+"\r\n\r\n") || strings.Contains(account, "\t")) {
			continue // refused, which is as good
		} else if got != "502" {
			t.Errorf("%q: %s, want 502", account, got)
			continue
		}
		if got := status(r.exchange(request)); got != "200" {
			t.Errorf("%q: the retry got %s, want 200", account, got)
		}
		if text := <-asked; !isPrintable(text) {
			t.Errorf("%q: the resolver was asked %q", account, text)
		}
	}
}

// Nor do keys and scopes of other origin (the admin API, a record of another version)
// put anything else into them.
func TestResolverIsAskedInPrintableFieldsOfScopes(t *testing.T) {
	t.Parallel()
	origin, asked := asks(t)
	resolver, err := proxy.NewHTTPResolver(origin+"/did", patience, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{
		"header:x-account=7", "header:x-account=7\x1fhost=x", "header:x-account=caf\xc3\xa9", "header:x-account=\xe9", "header:x-account=a\r\nX-Evil: 1",
		"header:x-account=a\x00b", "header:x-account=a\x7f",
	} {
		key := mustKey("k").InScope(scope)
		if _, err := resolver.Ask(t.Context(), key); err != nil {
			continue // it was not asked
		}
		if text := <-asked; !isPrintable(text) || len(valuesOf(text, "X-Evil")) > 0 {
			t.Errorf("%q: the resolver was asked %q", scope, text)
		}
	}
}
