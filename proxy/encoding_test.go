package proxy_test

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A retry that does not take the coding of the stored response gets the same
// content without it.
func TestReplayInAnotherEncoding(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte("the content"))
	_ = w.Close()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch coding := q.Header.Get("X-Coding"); coding {
		case "gzip", "x-gzip":
			c.Answer(200, packed.String(), "Content-Encoding: "+coding, "Vary: Accept-Encoding", `ETag: "x"`)
		default:
			c.Answer(200, "opaque", "Content-Encoding: "+coding)
		}
	})
	for _, c := range []struct {
		coding, accept string // "-" for none
		as             string // gzip, plain, or refused
	}{
		{"gzip", "-", "gzip"},
		{"gzip", "gzip, br", "gzip"},
		{"gzip", "GZIP;q=0.1", "gzip"},
		{"gzip", "*", "gzip"},
		{"gzip", "x-gzip", "gzip"},
		{"gzip", "", "plain"},
		{"gzip", "identity", "plain"},
		{"gzip", "br", "plain"},
		{"gzip", "gzip;q=0", "plain"},
		{"gzip", "gzip; q=0.000, *", "plain"},
		{"gzip", "*;q=0", "plain"},
		{"gzip", "gzip;q=x", "plain"},
		{"x-gzip", "gzip", "gzip"},
		{"x-gzip", "br", "plain"},
		{"zap", "zap", "opaque"},
		{"zap", "gzip", "refused"},
		{"identity", "br", "opaque"},
	} {
		key := c.coding + " as " + c.accept + "."
		r.post(key, "x", "X-Coding: "+c.coding, "Accept-Encoding: gzip, zap")
		header := []string{"X-Coding: " + c.coding}
		if c.accept != "-" {
			header = append(header, "Accept-Encoding: "+c.accept)
		}
		a := r.post(key, "x", header...)
		want := map[string]string{"gzip": packed.String(), "plain": "the content", "opaque": "opaque"}[c.as]
		switch {
		case c.as == "refused":
			r.isProblem(a, 406, "encoding-not-accepted")
		case a.StatusCode != 200 || a.body != want || a.Header.Get("Idempotent-Replayed") != "true":
			t.Errorf("%s: %d %q %v", key, a.StatusCode, a.body, a.Header)
		case c.as == "plain" && (a.Header.Get("Content-Encoding") != "" || a.Header.Get("ETag") != `W/"x"` || a.Header.Get("Vary") == ""):
			t.Errorf("%s: %v", key, a.Header)
		case c.as == "gzip" && (a.Header.Get("Content-Encoding") != c.coding || a.Header.Get("ETag") != `"x"`):
			t.Errorf("%s: %v", key, a.Header)
		}
		r.executions(key, 1)
	}
}
