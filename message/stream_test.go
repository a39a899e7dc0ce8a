package message

import (
	"errors"
	"strings"
	"testing"
)

// taken gives a stream text in pieces of a size, and returns what it takes.
func taken(text string, size int) (string, error) {
	var s Stream
	var out strings.Builder
	for rest := text; len(rest) > 0; {
		piece := rest[:min(size, len(rest))]
		n, err := s.Take([]byte(piece))
		out.WriteString(rest[:n])
		if err != nil {
			return out.String(), err
		}
		if n < len(piece) && !s.Held() {
			return out.String(), errors.New("less was taken, and nothing is held")
		}
		rest = rest[n:]
		s.Go(true)
	}
	return out.String(), nil
}

func TestStream(t *testing.T) {
	t.Parallel()
	const get, te = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
	for text, want := range map[string]error{
		get + "\r\n" + get: nil,
		"POST / HTTP/1.1\r\ncontent-length:  3 \r\n\r\na\nb" + get:                    nil,
		"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\na\nbGET / HTTP/1.1\n":            errBareLF,
		"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n" + get:                                  nil,
		"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\nGET / HTTP/1.1\n":                        errBareLF,
		"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n\n\n\n":                           nil, // refused by others
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n\n":          nil,
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\n": nil,
		"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n\n":                         nil,
		te + "3;a=b\r\na\nb\r\n0A\r\n0123456789\r\n00\r\nX: y\r\n\r\n" + get:          nil,
		te + "0\r\n\r\nGET / HTTP/1.1\n":                                              errBareLF,
		te + "0\n\r\n":                                                                errBareLF,
		te + "0\r\n\n":                                                                errBareLF,
		te + "1\r\na\n0\r\n\r\n":                                                      errBareLF,
		te + "1\r\nab\r\n":                                                            errEndOfData,
		te + "\r\n":                                                                   errChunk,
		te + "1 \r\n":                                                                 errChunk,
		te + "fffffffffffffffff\r\n":                                                  errChunk,
		te + "1;a\rb\r\n":                                                             errChunk,
		te + "0\r\nX : y\r\n":                                                         errTrailer,
		te + "0\r\nX\r\n":                                                             errTrailer,
		te + "0\r\nX: y\r\n z\r\n":                                                    errFolded,
		te + "1;" + strings.Repeat("x", longestFrame) + "\r\n":                        errLongLine,
		te + "0\r\nX: " + strings.Repeat("x", longestFrame) + "\r\n":                  errLongLine,
		"GET /" + strings.Repeat("x", longestLine) + " HTTP/1.1\r\n":                  errLongLine,
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", longestFrame) + "\r\n\r\n":      nil,
	} {
		for _, size := range []int{1, 7, 1 << 30} {
			got, err := taken(text, size)
			if !errors.Is(err, want) || !strings.HasPrefix(text, got) || err == nil && got != text {
				t.Errorf("%.80q by %d: %.80q, %v, want %v", text, size, got, err, want)
			}
		}
	}
}

// How the bytes arrive changes nothing.
func FuzzStream(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", 3)
	f.Add("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n\r\n", 5)
	f.Fuzz(func(t *testing.T, text string, size int) {
		if size < 1 {
			return
		}
		once, err1 := taken(text, len(text)+1)
		apart, err2 := taken(text, size)
		if (err1 == nil) != (err2 == nil) || err1 == nil && once != apart {
			t.Errorf("%q, %v; by %d: %q, %v", once, err1, size, apart, err2)
		}
	})
}

func BenchmarkStream(b *testing.B) {
	request := []byte("POST /pay HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: client/1.0\r\nIdempotency-Key: order-42\r\n" +
		"Authorization: Bearer abcdefghijklmnopqrstuvwxyz\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n01234567890123456789")
	var s Stream
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Take(request); err != nil {
			b.Fatal(err)
		}
	}
}
