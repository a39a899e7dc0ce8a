package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// spelled are the ways in which the same fields come: many servers and clients write
// them in lower case.
func spelled(t *testing.T, test func(t *testing.T, as func(string) string)) {
	t.Helper()
	for name, as := range map[string]func(string) string{"as usual": strings.Clone, "lower": strings.ToLower, "upper": strings.ToUpper} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, as)
		})
	}
}

// What a backend says by a field, it says in any spelling of its name (RFC 9110
// section 5.1).
func TestFieldNamesInAnyCase(t *testing.T) {
	t.Parallel()
	spelled(t, func(t *testing.T, as func(string) string) {
		t.Helper()
		r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			switch q.URL.Path {
			case "/moved":
				c.Answer(307, "", as("Location")+": /there")
			case "/secret":
				c.Answer(200, "x", as("Idempotency-Policy")+": no-store")
			case "/trailers":
				c.Raw("HTTP/1.1 200 OK\r\n" + as("Trailer") + ": X-Sum\r\n" + as("Transfer-Encoding") + ": chunked\r\n\r\n0\r\n" + as("X-Sum") + ": 7\r\n\r\n")
			case "/hints":
				c.Raw("HTTP/1.1 103 Early Hints\r\n" + as("Connection") + ": x-hop\r\nX-Hop: 1\r\nX-Stays: 1\r\n\r\n")
				c.Answer(200, "x")
			default:
				c.Answer(200, "x")
			}
		}, func(c *proxy.Config) { c.EarlyHints = true })
		if a, b := r.post("m", "x"), r.do("POST", "/moved", "n", "x"); a.StatusCode != 200 || b.StatusCode != 307 {
			t.Fatalf("%d, %d", a.StatusCode, b.StatusCode)
		}
		if a := r.do("POST", "/there", "n", "x"); a.StatusCode != 200 {
			t.Errorf("where a 307 leads: %d %s", a.StatusCode, a.body)
		}
		for range 2 {
			if a := r.do("POST", "/secret", "s", "x"); a.Header.Get("Idempotent-Replayed") != "" {
				t.Error("what is not to be stored is replayed")
			}
		}
		if a := r.do("GET", "/trailers", "", ""); a.Trailer.Get("X-Sum") != "7" {
			t.Errorf("trailers: %v", a.Trailer)
		}
		c, br := dial(t, r.addr)
		send(t, c, "GET /hints HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 103 || resp.Header.Get("X-Hop") != "" || resp.Header.Get("X-Stays") != "1" {
			t.Errorf("an interim response: %v %v", resp, err)
		}
		refused := r.raw("POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: m\r\n" + as("Accept") + ": text/plain\r\nContent-Length: 1\r\n\r\ny")
		if got := refused.Header.Get("Content-Type"); refused.StatusCode != 422 || !strings.HasPrefix(got, "text/plain") {
			t.Errorf("for who wants text: %d %s", refused.StatusCode, got)
		}
	})
}

func TestUpgradesInAnyCase(t *testing.T) {
	t.Parallel()
	spelled(t, func(t *testing.T, as func(string) string) {
		t.Helper()
		r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
			c.Raw("HTTP/1.1 101 Switching Protocols\r\n" + as("Connection") + ": upgrade\r\n" + as("Upgrade") + ": echo\r\n\r\n")
			_, _ = io.Copy(c.Conn, c.Conn)
			_ = c.Close()
		})
		c, br := dial(t, r.addr)
		send(t, c, "GET / HTTP/1.1\r\nHost: a\r\n"+as("Connection")+": upgrade\r\n"+as("Upgrade")+": echo\r\n\r\nhi")
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "echo" {
			t.Fatalf("%v %v", resp, err)
		}
		readExactly(t, br, "hi")
	})
}

// A resolver is heard in any spelling, too.
func TestResolverInAnyCase(t *testing.T) {
	t.Parallel()
	spelled(t, func(t *testing.T, as func(string) string) {
		t.Helper()
		b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) {
			c.Answer(200, "gone", as("Idempotency-Status")+": 402")
		})
		resolver, err := proxy.NewHTTPResolver(b.URL(), 10*time.Second, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		key, err := idem.ParseKey("k")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := resolver.Ask(t.Context(), key); err != nil || got.Status != 402 {
			t.Errorf("%+v %v", got, err)
		}
	})
}
