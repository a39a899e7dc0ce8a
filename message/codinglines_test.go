package message_test

import (
	"bufio"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// Content codings on several lines are one list (RFC 9110 section 5.3): whoever has the last
// one only cannot read the body.
func TestCodingsOnSeveralLines(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]string{
		"Content-Encoding: own\r\nContent-Encoding: gzip\r\n":                        "own, gzip",
		"content-encoding:own\r\nX: 1\r\nCONTENT-ENCODING: gzip , br\r\n":            "own, gzip , br",
		"Content-Encoding: own\nContent-Encoding: gzip\n":                            "own, gzip",
		"Content-Encoding: own,\r\n br\r\nContent-Encoding: gzip\r\n":                "own, br, gzip",
		"Content-Encoding: gzip\r\nContent-Encoding:\r\n":                            "gzip",
		"Content-Encoding: gzip\r\nX-Content-Encoding: own\r\nX-Length: 3\r\nY:\r\n": "gzip",
		"Content-Encoding:\r\nContent-Encoding: \r\n":                                "",
	} {
		for _, size := range []int{16, 4096} { // the header fits in the reader's buffer, or does not
			var h fasthttp.ResponseHeader
			text := "HTTP/1.1 200 OK\r\n" + lines + "X-Last: 1\r\n\r\n"
			n, err := message.ReadResponse(bufio.NewReaderSize(strings.NewReader(text+"body"), size), &h, 1<<10)
			if got := string(h.ContentEncoding()); err != nil || n != len(text) || got != want || string(h.Peek("X-Last")) != "1" {
				t.Errorf("%q: %q of %d bytes, %v, want %q of %d", lines, got, n, err, want, len(text))
			}
		}
	}
}
