package proxy_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
)

// What comes after an event is found whatever ends the lines, and nothing is left out if
// it is not.
func TestAfterEvent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ stream, id, rest string }{
		{"id: 1\ndata: a\n\nid: 2\n\n", "1", "id: 2\n\n"},
		{"id:1\r\ndata: a\r\n\r\nid: 2\r\n\r\n", "1", "id: 2\r\n\r\n"},
		{"id:1\rdata: a\r\rid: 2\r\r", "1", "id: 2\r\r"},
		{"\xef\xbb\xbfid: 1\n\nrest", "1", "rest"},
		{"data: id: 1\n\nid: 1\n\nrest", "1", "rest"},
		{"id: 1\nid: 2\n\nid: 1\n\nrest", "1", "rest"}, // the last one of an event counts
		{"id: 1\n\nid: 1\n\nrest", "1", "id: 1\n\nrest"},
		{"id: 1\ndata: not at its end", "1", "id: 1\ndata: not at its end"},
		{"id: 1\n", "1", "id: 1\n"},
		{"idea: 1\n\nrest", "1", "idea: 1\n\nrest"},
		{"id: 11\n\nrest", "1", "id: 11\n\nrest"},
		{"", "1", ""},
		{"id\n\nrest", "", "rest"},
	} {
		if got := proxy.AfterEvent(c.stream, c.id); got != c.rest {
			t.Errorf("%q after %q is %q, want %q", c.stream, c.id, got, c.rest)
		}
	}
}

// FuzzAfterEvent: what is left is the end of the stream, and begins behind an empty line.
func FuzzAfterEvent(f *testing.F) {
	f.Add("id: 1\ndata: a\n\nid: 2\n\n", "1")
	f.Add("id:1\r\r\nid: \x00\r\n\r\n", "")
	f.Fuzz(func(t *testing.T, stream, id string) {
		rest := proxy.AfterEvent(stream, id)
		before, ok := strings.CutSuffix(stream, rest)
		if !ok || before != "" && !strings.HasSuffix(before, "\n") && !strings.HasSuffix(before, "\r") {
			t.Errorf("%q after %q is %q", stream, id, rest)
		}
	})
}
