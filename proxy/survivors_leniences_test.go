package proxy_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// lenient is a request of which a lenient parser would read another one than a strict
// one does.
type lenient struct{ name, text string }

const chunkedPost = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"

func leniences() []lenient {
	body := func(text string) string { return chunkedPost + "{k}\r\n" + text }
	return []lenient{
		{"request line ends in LF", "POST / HTTP/1.1\nHost: x\r\n{k}Content-Length: 0\r\n\r\n"},
		{"request line ends in CR", "POST / HTTP/1.1\rHost: x\r\n{k}Content-Length: 0\r\n\r\n"},
		{"empty line of LF in front", "\nPOST / HTTP/1.1\nHost: x\r\n{k}Content-Length: 0\r\n\r\n"},
		{"field ends in LF", "POST / HTTP/1.1\r\nHost: x\r\n{k}X: y\nContent-Length: 0\r\n\r\n"},
		{"header ends in LF", "POST / HTTP/1.1\r\nHost: x\r\n{k}Content-Length: 0\r\n\n"},
		{"chunk size ends in LF", body("1\nx\r\n0\r\n\r\n")},
		{"chunk data ends in LF", body("1\r\nx\n0\r\n\r\n")},
		{"chunk data ends in CR", body("1\r\nx\r0\r\n\r\n")},
		{"chunk data ends in nothing", body("1\r\nx0\r\n\r\n")},
		{"second chunk's data ends in LF", body("1\r\nx\r\n1\r\ny\n0\r\n\r\n")},
		{"last chunk ends in LF", body("1\r\nx\r\n0\n\r\n")},
		{"last chunk ends in LF, with an extension", body("1\r\nx\r\n0;a=b\n\r\n")},
		{"last line ends in LF", body("1\r\nx\r\n0\r\n\n")},
		{"trailer ends in LF", body("1\r\nx\r\n0\r\nX-Sum: 1\n\r\n")},
		{"trailers end in LF", body("1\r\nx\r\n0\r\nX-Sum: 1\r\n\n")},
		{"folded trailer", body("1\r\nx\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n")},
		{"trailer folded by a tab", body("1\r\nx\r\n0\r\nX-Sum: 1\r\n\t2\r\n\r\n")},
		{"trailer that begins with a fold", body("1\r\nx\r\n0\r\n X-Sum: 1\r\n\r\n")},
		{"trailer with a space before its colon", body("1\r\nx\r\n0\r\nX-Sum : 1\r\n\r\n")},
		{"trailer with a tab before its colon", body("1\r\nx\r\n0\r\nX-Sum\t: 1\r\n\r\n")},
		{"trailer with CR in it", body("1\r\nx\r\n0\r\nX-Sum: 1\r2\r\n\r\n")},
		{"trailer with NUL in it", body("1\r\nx\r\n0\r\nX-Sum: 1\x002\r\n\r\n")},
		{"size with a space in front", body(" 1\r\nx\r\n0\r\n\r\n")},
		{"size with a sign", body("+1\r\nx\r\n0\r\n\r\n")},
		{"size with 0x", body("0x1\r\nx\r\n0\r\n\r\n")},
		{"size with an underscore", body("0_1\r\nx\r\n0\r\n\r\n")},
		{"CR in an extension", body("1;a\rb\r\nx\r\n0\r\n\r\n")},
	}
}

// All of them are refused, with a key or without, in whatever pieces they come: nothing
// of them is executed, and what comes behind is not read as a request.
func TestLeniences(t *testing.T) {
	t.Parallel()
	for _, announced := range []string{"", "Trailer: X-Sum\r\n"} {
		for _, key := range []string{"", "Idempotency-Key: k\r\n"} {
			for _, c := range leniences() {
				t.Run(c.name+" "+strings.TrimSpace(announced+key), func(t *testing.T) {
					t.Parallel()
					b := newRecorder(t, okay)
					r := newRig(t, backendtest.OK, to(b.origin))
					text := r.exchange(strings.ReplaceAll(c.text, "{k}", announced+key) + smuggled)
					if all := parse(t, text); len(all) != 1 || all[0].StatusCode != 400 || !all[0].Close {
						t.Errorf("answered %q, want one 400", text)
					}
					if all := b.requests(); len(all) > 0 {
						t.Errorf("the backend got %q", all)
					}
				})
			}
		}
	}
}

// What is of the one form is taken, so that the test above tells something.
func TestStrictFormsAreTaken(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "Idempotency-Key: k\r\n"} {
		for _, text := range []string{
			chunkedPost + "{k}\r\n1\r\nx\r\n0\r\n\r\n", chunkedPost + "{k}Trailer: X-Sum\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
			chunkedPost + "{k}\r\n1;a=\"b;c\"\r\nx\r\n0;d\r\nX-Sum:1\r\nX-More: \r\n\r\n", "\r\nPOST / HTTP/1.1\r\nHost: x\r\n{k}Content-Length: 1\r\n\r\nx",
		} {
			b := newRecorder(t, okay)
			r := newRig(t, backendtest.OK, to(b.origin))
			all := parse(t, r.exchange(strings.ReplaceAll(text, "{k}", key)+smuggled))
			if closes := len(all) > 0 && all[0].Close && key == ""; len(all) == 1 && closes {
				continue // see TestWholeUploadKeepsItsConnection
			}
			if len(all) != 2 || all[0].StatusCode != 200 || all[1].StatusCode != 200 {
				t.Errorf("%q: %d answers", text, len(all))
			}
			if all := b.requests(); len(all) != 2 || strings.Contains(strings.ReplaceAll(strings.Join(all, ""), "\r\n", ""), "\n") {
				t.Errorf("%q: the backend got %q", text, all)
			}
		}
	}
}

// A response that two parsers could read as two is none, however long it is, with a key
// or without; and its connection is not used again.
func TestLenientResponses(t *testing.T) {
	t.Parallel()
	const length, in = "Content-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, response := range []string{
		"HTTP/1.1 000 OK\r\n" + length, "HTTP/1.1 099 OK\r\n" + length, "HTTP/1.1 20 OK\r\n" + length, "HTTP/1.1 2000 OK\r\n" + length,
		"HTTP/1.1  200 OK\r\n" + length, "HTTP/1.1\t200 OK\r\n" + length, "HTTP/2.0 200 OK\r\n" + length, "HTTP/1.1200 OK\r\n" + length,
		"http/1.1 200 OK\r\n" + length, " HTTP/1.1 200 OK\r\n" + length, "HTTP/1.1 200 O\rK\r\n" + length, "HTTP/1.1 200 O\x00K\r\n" + length,
		"HTTP/1.1 200 OK\r\nX Y: 1\r\n" + length, "HTTP/1.1 200 OK\r\nX : 1\r\n" + length, "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n" + length,
		"HTTP/1.1 200 OK\r\n: 1\r\n" + length, "HTTP/1.1 200 OK\r\nX\x00: 1\r\n" + length, "HTTP/1.1 200 OK\r\nX: a\rb\r\n" + length,
		"HTTP/1.1 200 OK\r\nX: a\x00b\r\n" + length, "HTTP/1.1 200 OK\r\n X: 1\r\n" + length, "HTTP/1.1 200 OK\r\nno colon\r\n" + length,
		"HTTP/1.1 103 Early Hints\r\nX Y: 1\r\n\r\nHTTP/1.1 200 OK\r\n" + length,
	} {
		b := newRecorder(t, always(response))
		r := newRig(t, backendtest.OK, to(b.origin))
		for _, key := range []string{"X: y", "Idempotency-Key: k"} {
			if got := status(r.exchange(withFields(key, "Connection: close"))); got != "502" {
				t.Errorf("%q, %s: %s, want 502", response, key, got)
			}
		}
		if conns := b.connections(); len(conns) != 2 || conns[0] == conns[1] {
			t.Errorf("%q: on connections %v", response, conns)
		}
	}
	for _, body := range []string{
		"2\r\nok\n0\r\n\r\n", "2\nok\r\n0\r\n\r\n", "2\r\nok\r\n0\n\r\n", "2\r\nok\r\n0\r\n\n", "2\r\nok\r\n0\r\nX: y\n\r\n", "2\r\nok0\r\n\r\n", "+2\r\nok\r\n0\r\n\r\n",
		"0x2\r\nok\r\n0\r\n\r\n", " 2\r\nok\r\n0\r\n\r\n", "2\r\nok\r\n0\r\nX : y\r\n\r\n", "2\r\nok\r\n\r\n0\r\n\r\n",
	} {
		b := newRecorder(t, always(in+body))
		r := newRig(t, backendtest.OK, to(b.origin))
		if got := status(r.exchange(withFields("Idempotency-Key: k", "Connection: close"))); got != "502" {
			t.Errorf("%q: %s, want 502", body, got)
		}
		text := r.exchange(withFields("X: y", "Connection: close")) // which streams, and is cut
		if strings.HasSuffix(text, "0\r\n\r\n") && status(text) == "200" {
			t.Errorf("%q passed as if it were whole: %q", body, text)
		}
		if conns := b.connections(); len(conns) != 2 || conns[0] == conns[1] {
			t.Errorf("%q: on connections %v", body, conns)
		}
	}
}

// A 304 has the length that the whole response would have, at first and ever after.
func TestLengthOfANotModified(t *testing.T) {
	t.Parallel()
	b := newRecorder(t, always("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1234\r\n\r\n"))
	r := newRig(t, backendtest.OK, to(b.origin))
	for i := range 3 {
		text := r.exchange("GET / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nConnection: close\r\n\r\n")
		if got := valuesOf(text, "Content-Length"); !slices.Equal(got, []string{"1234"}) || status(text) != "304" || !strings.HasSuffix(text, "\r\n\r\n") {
			t.Errorf("answer %d: %q", i, text)
		}
		if marks := len(valuesOf(text, "Idempotent-Replayed")); marks != min(i, 1) {
			t.Errorf("answer %d has %d marks of a replay", i, marks)
		}
	}
}

// A trailer that may not be one does not take the response with it, and does not become
// a field of it.
func TestSetCookieAsATrailer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200_000)
	for _, body := range []string{"ok", long} {
		b := newRecorder(t, always("HTTP/1.1 200 OK\r\nTrailer: Set-Cookie\r\nTransfer-Encoding: chunked\r\n\r\n"+
			hex(len(body))+"\r\n"+body+"\r\n0\r\nSet-Cookie: a=b\r\n\r\n"))
		r := newRig(t, backendtest.OK, to(b.origin))
		for _, key := range []string{"X: y", "Idempotency-Key: k", "Idempotency-Key: k"} {
			text := r.exchange(withFields(key, "Connection: close"))
			all := parse(t, text)
			if len(all) != 1 || all[0].StatusCode != 200 || all[0].body != body {
				t.Errorf("%s: %.200q", key, text)
			}
			if strings.Contains(text, "a=b") {
				t.Errorf("%s: the client gets the trailer", key)
			}
		}
	}
}

// The last recipient of a TRACE or OPTIONS is the one that it comes to with nothing left
// of Max-Forwards.
func TestForwardsAreCounted(t *testing.T) {
	t.Parallel()
	b := newRecorder(t, okay)
	r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) { c.RequireKey = true })
	for _, method := range []string{http.MethodTrace, http.MethodOptions} {
		for value, want := range map[string]string{"1": "0", "10": "9", "0100": "99"} {
			r.exchange(method + " / HTTP/1.1\r\nHost: x\r\nMax-Forwards: " + value + "\r\nConnection: close\r\n\r\n")
			if got := valuesOf(b.last(), "Max-Forwards"); !slices.Equal(got, []string{want}) {
				t.Errorf("%s, %s: the backend gets %q", method, value, got)
			}
		}
		n := len(b.requests())
		for _, value := range []string{"0", "00", "x", "-1", "1\r\nMax-Forwards: 0", "0\r\nMax-Forwards: 1", "0, 1"} {
			text := r.exchange(method + " / HTTP/1.1\r\nHost: x\r\nMax-Forwards: " + value + "\r\nCookie: secret\r\nConnection: close\r\n\r\n")
			want := "400"
			if strings.Trim(value, "0") == "" {
				want = "200"
			}
			if status(text) != want || strings.Contains(text, "secret") {
				t.Errorf("%s, %q: %q, want %s", method, value, text, want)
			}
		}
		if all := b.requests(); len(all) != n {
			t.Errorf("%s: the backend got %q", method, all[n:])
		}
	}
	r.exchange("GET / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n")
	if got := valuesOf(b.last(), "Max-Forwards"); !slices.Equal(got, []string{"0"}) {
		t.Errorf("GET: the backend gets %q", got)
	}
}
