package message

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/valyala/fasthttp"
)

// FuzzLines: of a header that Sound takes, the lines are those that fasthttp has.
func FuzzLines(f *testing.F) {
	for _, rest := range []string{
		"", "A: b\r\n", "a:b\r\nA:\r\nB: \t \r\n", "X: a:b : c\r\nX:  two  words\t\r\n", "Content-Length: 0\r\n", "X: a\nY: b\r\n",
		"X: a\r\n folded\r\nY: b\r\n", "X : a\r\n", "no colon\r\n", ": none\r\n", "X: a\rb\r\n", "Connection: a, b\r\nTransfer-Encoding: chunked\r\n",
	} {
		f.Add(rest)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		var h fasthttp.RequestHeader
		h.DisableNormalizing()
		text := "POST / HTTP/1.1\r\nHost: a\r\n" + rest + "\r\n"
		if h.Read(bufio.NewReaderSize(bytes.NewReader([]byte(text)), len(text)+64)) != nil || Sound(&h) != nil {
			return
		}
		var ours [][]byte
		for name, value := range linesOf(&h) {
			ours = append(ours, name, value)
		}
		for name, value := range h.AllInOrder() {
			if len(ours) < 2 || !bytes.Equal(ours[0], name) || !bytes.Equal(ours[1], value) {
				t.Fatalf("%q: %q instead of %q: %q", text, ours, name, value)
			}
			ours = ours[2:]
		}
		if len(ours) > 0 {
			t.Errorf("%q: %q besides", text, ours)
		}
	})
}
