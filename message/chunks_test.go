package message

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/valyala/fasthttp"
)

func TestChunks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		body string
		err  error
		sum  string
	}{
		"0\r\n\r\n":                                {},
		"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n":     {body: "abcde"},
		"2  \r\nab\r\n000\r\n\r\n":                 {body: "ab"},
		"a\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n": {body: "0123456789", sum: "1"},
		"0\r\nSet-Cookie: a\r\nX-Sum:1 \r\n\r\n":   {sum: "1"},
		"0\r\nX-Sum: 1\r\n 2\r\n\r\n":              {sum: "1 2"},
		"2\r\nab\r\n":                              {body: "ab", err: io.ErrUnexpectedEOF},
		"2\r\na":                                   {body: "a", err: io.ErrUnexpectedEOF},
		"0\r\n":                                    {err: io.ErrUnexpectedEOF},
		"":                                         {err: io.ErrUnexpectedEOF},
		"2\r\nabc\r\n":                             {body: "ab", err: errEndOfData},
		"2\r\nab\n0\r\n\r\n":                       {body: "ab", err: errBareLF},
		"2\nab\r\n0\r\n\r\n":                       {err: errBareLF},
		"0\r\nX-Sum: 1\n\r\n":                      {err: errBareLF},
		"0\r\nX Sum: 1\r\n\r\n":                    {err: errTrailer},
		"0\r\n X-Sum: 1\r\n\r\n":                   {err: errTrailer},
		"0\r\nX-Sum: \x00\r\n\r\n":                 {err: errResponseValue},
		"x\r\n":                                    {err: errChunk},
		"\r\n":                                     {err: errChunk},
		"-1\r\n":                                   {err: errChunk},
		"1;" + strings.Repeat("x", 9000) + "\r\n":        {err: errLongLine},
		"0\r\n" + strings.Repeat("X: yyyyyyy\r\n", 3000): {err: errLongLine},
	} {
		for _, slowly := range []bool{false, true} {
			source := io.Reader(strings.NewReader(text))
			if slowly {
				source = iotest.OneByteReader(source)
			}
			c := NewChunks(bufio.NewReader(source))
			body, err := io.ReadAll(&c)
			var h fasthttp.ResponseHeader
			h.DisableNormalizing()
			if err := h.SetTrailer("X-Sum"); err != nil {
				t.Fatal(err)
			}
			c.CopyTrailers(&h)
			if string(body) != want.body || !errors.Is(err, want.err) || err == nil && string(h.Peek("X-Sum")) != want.sum {
				t.Errorf("%.60q: %q, %v, sum %q", text, body, err, h.Peek("X-Sum"))
			}
			if n, again := c.Read(make([]byte, 1)); n != 0 || again == nil {
				t.Errorf("%.60q: goes on with %d, %v", text, n, again)
			}
		}
	}
}

// Ready never says that a Read would not wait when it would, and says it as soon as there
// is something to be had.
func TestChunksReady(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		come  string
		reads int   // that are ready
		last  error // nil, io.EOF, or any
	}{
		{"", 0, nil},
		{"3", 0, nil},
		{"3\r\n", 0, nil},
		{"3\r\na", 1, nil},
		{"3\r\nabc", 1, nil},
		{"3\r\nabc\r\n", 1, nil},
		{"3\r\nabc\r\n2", 1, nil},
		{"3;a=b\r\nabc\r\n2\r\nd", 2, nil},
		{"3\r\nabc\r\n0\r\n", 1, nil},
		{"3\r\nabc\r\n0\r\nT: 1\r\n", 1, nil},
		{"3\r\nabc\r\n0\r\n\r\n", 2, io.EOF},
		{"3\r\nabc\r\n000\r\nT: 1\r\n\r\n", 2, io.EOF},
		{"3\r\nabc\r\nx\r\n", 2, io.ErrUnexpectedEOF},
	} {
		br := bufio.NewReader(io.MultiReader(strings.NewReader(c.come), waits{t}))
		_, _ = br.Peek(len(c.come))
		chunks := NewChunks(br)
		reads, last := 0, error(nil)
		for last == nil && chunks.Ready() {
			_, last = chunks.Read(make([]byte, 10))
			reads++
		}
		if reads != c.reads || (last == nil) != (c.last == nil) || errors.Is(c.last, io.EOF) != errors.Is(last, io.EOF) {
			t.Errorf("%q: %d reads, %v", c.come, reads, last)
		}
	}
}

// waits is where a Read would wait.
type waits struct{ t *testing.T }

func (w waits) Read([]byte) (int, error) {
	w.t.Error("it waits")
	return 0, io.ErrNoProgress
}
