package message

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// many is a header of n fields that are nominated by n tokens, in one field or in n.
func many(n int, start string, apart bool) string {
	var fields, tokens strings.Builder
	for i := range n {
		fmt.Fprintf(&fields, "x-%d: 1\r\n", i)
		if apart {
			fmt.Fprintf(&tokens, "Connection: x-%d\r\n", n-1-i)
		} else {
			fmt.Fprintf(&tokens, "x-%d,", n-1-i)
		}
	}
	if apart {
		return start + tokens.String() + fields.String() + "Content-Length: 0\r\n\r\n"
	}
	return start + "Connection: " + tokens.String() + "y\r\n" + fields.String() + "Content-Length: 0\r\n\r\n"
}

// BenchmarkManyTokens: eight times the header costs about eight times as much, both
// ways, in one line and in many.
func BenchmarkManyTokens(b *testing.B) {
	for _, apart := range []bool{false, true} {
		for _, n := range []int{1000, 8000} {
			name := fmt.Sprintf("%d, apart %v", n, apart)
			request, response := many(n, "GET / HTTP/1.1\r\nHost: x\r\n", apart), many(n, "HTTP/1.1 200 OK\r\n", apart)
			b.Run("parsing a request, "+name, func(b *testing.B) {
				for b.Loop() {
					var in fasthttp.RequestHeader
					readRequest(b, &in, request)
				}
			})
			b.Run("request, "+name, func(b *testing.B) {
				var in fasthttp.RequestHeader
				readRequest(b, &in, request)
				for b.Loop() {
					var h Head
					var out fasthttp.RequestHeader
					if err := Sound(&in); err != nil {
						b.Fatal(err)
					}
					h.Read(&in)
					h.Forward(&out, &Onward{Peer: &net.TCPAddr{}, Guarded: []string{"A", "B", "C"}})
					if n := out.Len(); n > 10 {
						b.Fatalf("%d fields are left", n)
					}
				}
			})
			b.Run("parsing a response, "+name, func(b *testing.B) {
				for b.Loop() {
					var in fasthttp.Response
					readReply(b, &in, response)
				}
			})
			b.Run("response, "+name, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					var in fasthttp.Response
					readReply(b, &in, response)
					b.StartTimer()
					if err := CleanResponse(&in, true, nil); err != nil {
						b.Fatal(err)
					}
					if n := in.Header.Len(); n > 10 {
						b.Fatalf("%d fields are left", n)
					}
				}
			})
		}
	}
}

func readRequest(tb testing.TB, h *fasthttp.RequestHeader, text string) {
	tb.Helper()
	h.DisableNormalizing()
	if err := h.Read(bufio.NewReaderSize(strings.NewReader(text), len(text))); err != nil {
		tb.Fatal(err)
	}
}

func readReply(tb testing.TB, resp *fasthttp.Response, text string) {
	tb.Helper()
	resp.Header.DisableNormalizing()
	if err := resp.Header.Read(bufio.NewReaderSize(strings.NewReader(text), len(text))); err != nil {
		tb.Fatal(err)
	}
}
