package proxy_test

import (
	"net/http"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A response that breaks off is traced by the id that its request was traced by, with
// a key and without, whether the client made the id or this proxy.
func TestCutsHaveTheRequestsID(t *testing.T) {
	t.Parallel()
	type cut struct {
		id    string
		keyed bool
	}
	done, cuts := make(chan string, 1), make(chan cut, 1)
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhel")
		_ = c.Close()
	}, func(c *proxy.Config) {
		c.MaxResponseBody = 2
		c.Trace.Done = func(q *proxy.Report) { done <- string(q.RequestID) }
		c.Trace.Cut = func(id string, key idem.Key, _ error) { cuts <- cut{id, key != (idem.Key{})} }
	})
	for _, c := range []struct{ key, id string }{{"", ""}, {"", "mine"}, {"k", ""}, {"l", "my-own"}} {
		header := []string{"X-A: b"}
		if c.id != "" {
			header = append(header, "X-Request-Id: "+c.id)
		}
		_, err := r.try(http.MethodPost, "/", c.key, "x", header...)
		told, got := <-done, <-cuts
		if err == nil || got.id == "" || got.id != told || c.id != "" && got.id != c.id || got.keyed != (c.key != "") {
			t.Errorf("%+v: cut %+v, done %q: %v", c, got, told, err)
		}
	}
}
