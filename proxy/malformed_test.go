package proxy_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Who is refused for a malformed request is told what is wrong with it.
func TestMalformedRequestsAreToldWhy(t *testing.T) {
	t.Parallel()
	reported := make(chan error, 1)
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.Trace.Done = func(r *proxy.Report) { reported <- r.Err } })
	for sent, why := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":                                              "has no Host field",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n":                        "more than one Host field",
		"GET / HTTP/1.1\r\nHost : a\r\n\r\n":                                  "a field name has a space",
		"GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n":                         "a field name has a space",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n":                      "a field value has a character",
		"GET / FTP/1.1\r\nHost: a\r\n\r\n":                                    "HTTP/1.1 or HTTP/1.0",
		"nonsense\r\n\r\n":                                                    "first line",
		"G@T / HTTP/1.1\r\nHost: a\r\n\r\n":                                   "the method has a character",
		"GET  / HTTP/1.1\r\nHost: a\r\n\r\n":                                  "one space and HTTP/1.1",
		"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n":                                "the first line does not end",
		"GET  HTTP/1.1\r\nHost: a\r\n\r\n":                                    "target",
		"GET\r\nHost: a\r\n\r\n":                                              "first line",
		"GET * HTTP/1.1\r\nHost: a\r\n\r\n":                                   "the request target is neither",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n":             "Content-Length is not one number",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n":       "transfer coding",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                    "HTTP/2 is not spoken here",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "no line feed in it": "what came is TLS",
	} {
		a := r.raw(sent)
		r.isProblem(a, 400, "request-invalid")
		if err := <-reported; !strings.Contains(a.body, why) || err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: want %q in %s, and in %v", sent, why, a.body, err)
		}
	}
	a := r.raw("GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n")
	r.isProblem(a, 431, "header-too-large")
	if err := <-reported; err == nil || err.Error() != "the header is larger than max_header" {
		t.Errorf("reported: %v", err)
	}
}
