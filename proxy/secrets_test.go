package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What is reported of a malformed message, which the log says, repeats nothing of it: a token
// from a file with CRLF ends in a CR, and its header cannot be read.
func TestErrorsRepeatNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = "SECRET"
	sent := map[string]string{}
	for _, field := range []string{
		"Authorization: Bearer SECRET\r", "Authorization: SECRET\x01", "Cookie: s=SECRET\x00", "Authorization : SECRET", "X: \r\n\tSECRET",
		"SECRET\x01: x", "Idempotency-Key: SECRET\x01", "Idempotency-Key: \"SECRET", "Content-Length: SECRET", "Transfer-Encoding: SECRET",
		"Host: SECRET@b", "Traceparent: SECRET\x01",
	} {
		sent[field] = "POST /x HTTP/1.1\r\nHost: a\r\n" + field + "\r\n\r\n"
	}
	sent["target"] = "POST /x?card=SECRET\x01 HTTP/1.1\r\nHost: a\r\n\r\n"
	sent["version"] = "POST /x?card=SECRET SECRET/1.1\r\nHost: a\r\n\r\n"
	sent["first line"] = "SECRET\r\n\r\n"
	sent["chunk"] = "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: a\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n"
	sent["trailer"] = "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: SECRET\x01\r\n\r\n"
	answered := []string{
		"HTTP/1.1 200 OK\r\nSet-Cookie: s=SECRET\x01\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nSet Cookie: SECRET\r\n\r\n", "SECRET\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n", "HTTP/1.1 200 OK\r\nContent-Length: SECRET\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: SECRET\r\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 SECRET OK\r\n\r\n", "HTTP/1.1 200 OK\r\nIdempotency-Policy: SECRET=(\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: SECRET\x01\r\n\r\n", "HTTP/1.1 200 OK\r\nX: \x01 'SECRET\r\n\r\n",
	}
	reported := make(chan error, 100)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		n := 0
		if _, err := fmt.Sscanf(q.URL.Path, "/answer/%d", &n); err == nil {
			c.Raw(answered[n])
			_ = c.Close()
			return
		}
		backendtest.OK(c, q)
	}, func(c *proxy.Config) {
		c.Trace.Done = func(r *proxy.Report) { reported <- r.Err }
	})
	check := func(what, text string) {
		t.Helper()
		a := r.raw(text)
		if strings.Contains(a.body, secret) {
			t.Errorf("%s: the client is told %s", what, a.body)
		}
		if err := <-reported; err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: reported is %v", what, err)
		}
	}
	for what, text := range sent {
		check(what, text)
	}
	for i := range answered {
		check(answered[i], fmt.Sprintf("POST /answer/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", i))
		check(answered[i], fmt.Sprintf("POST /answer/%d HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k%d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", i, i))
	}
}
