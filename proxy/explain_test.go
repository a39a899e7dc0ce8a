package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
)

// FuzzExplain: whatever a file has in it, something is said of it.
func FuzzExplain(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\nHost: a\n\nbody"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	c := proxy.Config{Rules: proxy.Rules{BindHeaders: []string{"Authorization"}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := proxy.Explain(&c, text)
		if err == nil && len(all) == 0 {
			t.Errorf("%q: nothing", text)
		}
		for _, one := range all {
			if len(one.Hashed) == 0 || one.Recipe == "" {
				t.Errorf("%q: %+v", text, one)
			}
		}
	})
}

// What is explained of a request is what a server makes of it: the record has that
// fingerprint, whatever the type of the body.
func TestExplainedAsRecorded(t *testing.T) {
	t.Parallel()
	fingerprint, err := operation.ParseFingerprint([]string{"method", "target", "json", "form", "multipart"})
	if err != nil {
		t.Fatal(err)
	}
	var config proxy.Config
	r := newRig(t, answerOK, func(c *proxy.Config) {
		c.Fingerprint = fingerprint
		config = *c
	})
	parts := "--b\r\nA: b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--\r\n"
	for _, c := range []struct{ name, header, body string }{
		{"json", "Content-Type: application/json", `{"b":1.0,"a":[1e-400]}`},
		{"form", "Content-Type: application/x-www-form-urlencoded", "b=2&a=1&b=1"},
		{"parts", "Content-Type: multipart/form-data; boundary=b", parts},
		{"parts with text around them", "Content-Type: multipart/form-data; boundary=b", "before\r\n" + parts + "behind"},
		{"parts that are cut off", "Content-Type: multipart/form-data; boundary=b", "--b\r\nA: b\r\n\r\n1"},
		{"bytes", "Content-Type: text/plain", "x"},
		{"none", "A: b", ""},
	} {
		text := fmt.Sprintf("POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
			strings.ReplaceAll(c.name, " ", "-"), c.header, len(c.body), c.body)
		if got := r.raw(text); got.StatusCode != http.StatusOK {
			t.Fatalf("%s: %+v", c.name, got)
		}
		all, err := proxy.Explain(&config, []byte(text))
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %+v, %v", c.name, all, err)
		}
		record, err := config.Engine.Get(t.Context(), mustKey(all[0].Key))
		if err != nil {
			t.Fatal(err)
		}
		if record.Fingerprint != all[0].Fingerprint {
			t.Errorf("%s: %x is recorded, %x explained, of %q", c.name, record.Fingerprint, all[0].Fingerprint, all[0].Hashed)
		}
	}
}

// A body is explained whether or not its client would have waited before sending it.
func TestExplainedWithExpectation(t *testing.T) {
	t.Parallel()
	all, err := proxy.Explain(&proxy.Config{}, []byte("POST / HTTP/1.1\nHost: a\nExpect: 100-continue\n\nbody"))
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if last := all[0].Hashed[len(all[0].Hashed)-1]; last != (operation.Hashed{Part: "body", Value: "body"}) {
		t.Errorf("%+v", last)
	}
}
