package message

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/valyala/fasthttp"
)

// parsed is a response's header read by ReadResponse, from a reader that gives a
// byte at a time or all at once.
func parsed(text string, slowly bool, most int) (string, string, error) {
	source := io.Reader(strings.NewReader(text))
	if slowly {
		source = iotest.OneByteReader(source)
	}
	br := bufio.NewReaderSize(source, 256)
	var h fasthttp.ResponseHeader
	h.DisableNormalizing()
	h.SetNoDefaultContentType(true)
	n, err := ReadResponse(br, &h, most)
	if err != nil {
		return "", "", err
	}
	rest, _ := io.ReadAll(br)
	if n+len(rest) != len(text) {
		return "", "", fmt.Errorf("%d of %d bytes are the header, and %d are left", n, len(text), len(rest))
	}
	out := fmt.Sprint(h.StatusCode(), " ", string(h.StatusMessage()))
	for name, value := range h.All() {
		out += fmt.Sprintf("|%s=%s", name, value)
	}
	return out, string(rest), nil
}

func TestReadResponse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for text, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 2\r\n\r\n":            "200 OK|Content-Length=2|A=1",
		"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n":                       "200 |Content-Length=0",
		"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n":                      "200 |Content-Length=0",
		"HTTP/1.1 200 OK\nA: 1\nContent-Length: 0\n\n":                    "200 OK|Content-Length=0|A=1",
		"HTTP/1.1 200 OK\r\nA: 1\nContent-Length: 0\r\n\n":                "200 OK|Content-Length=0|A=1",
		"HTTP/1.1 200 OK\r\nA: 1\r\n  2\r\nContent-Length: 0\r\n\r\n":     "200 OK|Content-Length=0|A=1 2",
		"HTTP/1.1 200 OK\r\nA: " + long + "\r\nContent-Length: 0\r\n\r\n": "200 OK|Content-Length=0|A=" + long,
		"HTTP/1.1 200 OK\nA: " + long + "\nContent-Length: 0\n\n":         "200 OK|Content-Length=0|A=" + long,
	} {
		for _, slowly := range []bool{false, true} {
			got, rest, err := parsed(text+"rest", slowly, 1000)
			if err != nil || got != want || rest != "rest" {
				t.Errorf("%.60q, slowly %v: %.60q, rest %q, %v; want %.60q", text, slowly, got, rest, err, want)
			}
		}
	}
	for text, want := range map[string]error{
		"HTTP/1.1 000 OK": errStatusLine, "HTTP/1.1  200 OK": errStatusLine, "HTTP/2.0 200 OK": errStatusLine, "HTTP/1.1 20 OK": errStatusLine,
		"HTTP/1.1 2000 OK": errStatusLine, "200 OK": errStatusLine, "": errStatusLine, "HTTP/1.1 200 O\rK": errReason, "HTTP/1.1 200 O\x00K": errReason,
		"HTTP/1.1 200 OK\r\n A: 1": errResponseField, "HTTP/1.1 200 OK\r\nA B: 1": errResponseField, "HTTP/1.1 200 OK\r\nA : 1": errResponseField,
		"HTTP/1.1 200 OK\r\nnothing": errResponseField, "HTTP/1.1 200 OK\r\n: 1": errResponseField, "HTTP/1.1 200 OK\r\nA: 1\r2": errResponseValue,
		"HTTP/1.1 200 OK\r\nA: \x00": errResponseValue, "HTTP/1.1 200 OK\r\nA: 1\r\n \x00": errResponseValue,
		"HTTP/1.1 200 OK\r\nA: " + long + long + long + long: ErrHeaderTooLarge, "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("1\r\nA: ", 200): ErrHeaderTooLarge,
	} {
		for _, slowly := range []bool{false, true} {
			if got, _, err := parsed(text+"\r\n\r\n", slowly, 1000); !errors.Is(err, want) {
				t.Errorf("%.60q, slowly %v: %.60q, %v, want %v", text, slowly, got, err, want)
			}
		}
	}
	if _, _, err := parsed("HTTP/1.1 200 OK\r\nA: 1\r\n", false, 1000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
}

// FuzzReadResponse: how the bytes arrive changes nothing, and what was read is
// never more than there was.
func FuzzReadResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 2\r\n\r\nab")
	f.Add("HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		at, restAt, err1 := parsed(text, false, 600)
		slow, restSlow, err2 := parsed(text, true, 600)
		if (err1 == nil) != (err2 == nil) || at != slow || restAt != restSlow {
			t.Errorf("at once: %q, %q, %v; slowly: %q, %q, %v", at, restAt, err1, slow, restSlow, err2)
		}
	})
}

func BenchmarkReadResponse(b *testing.B) {
	const text = "HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Type: application/json\r\nContent-Length: 300\r\n\r\n"
	var source strings.Reader
	br := bufio.NewReaderSize(&source, 16<<10)
	var h fasthttp.ResponseHeader
	read := map[string]func() error{
		"bare fasthttp": func() error { return h.Read(br) },
		"checked":       func() error { _, err := ReadResponse(br, &h, 64<<10); return err },
	}
	for name, f := range read {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				source.Reset(text)
				br.Reset(&source)
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
