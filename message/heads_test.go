package message_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

type line struct{ Name, Value []byte }

// linesOf are those of a stored header.
func linesOf(pairs ...string) (all []line) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, line{[]byte(pairs[i]), []byte(pairs[i+1])})
	}
	return all
}

// stored are responses whose headers fasthttp treats differently.
func stored() map[string]struct {
	status int
	header []line
	head   bool
} {
	return map[string]struct {
		status int
		header []line
		head   bool
	}{
		"plain":       {200, linesOf("Content-Type", "application/json", "Date", "Mon, 02 Jan 2006 15:04:05 GMT"), false},
		"no type":     {201, linesOf("Location", "/1"), false},
		"cases":       {200, linesOf("x-lower", "1", "X-UPPER", "2", "x-Lower", "3", "X-Request-Id", "not this", "content-type", "a/b"), false},
		"cookies":     {200, linesOf("Set-Cookie", "a=1; Path=/", "Set-Cookie", "b=2", "Server", "s", "Content-Encoding", "gzip"), false},
		"no content":  {204, linesOf("ETag", `"1"`), false},
		"to HEAD":     {200, linesOf("Content-Length", "1234", "Content-Type", "text/plain"), true},
		"an odd code": {299, linesOf("Warning", "", "Warning", "199 - x"), false},
	}
}

// written is a response as it goes over the wire.
func written(tb testing.TB, resp *fasthttp.Response) string {
	tb.Helper()
	var all bytes.Buffer
	if _, err := resp.WriteTo(&all); err != nil {
		tb.Fatal(err)
	}
	return all.String()
}

// asServed prepares a response as the server does.
func asServed(resp *fasthttp.Response) *fasthttp.Response {
	resp.Reset()
	resp.Header.DisableNormalizing()
	resp.Header.SetNoDefaultContentType(true)
	return resp
}

// A header that is known gives the response that parsing it gives, whoever asks, and
// whatever was in the response before.
func TestKnownHeadsAreTheSame(t *testing.T) {
	t.Parallel()
	var known message.Heads
	body := []byte("body")
	var asking sync.WaitGroup
	for name, r := range stored() {
		var plain fasthttp.Response
		if err := message.Replay(asServed(&plain), r.status, r.header, body, r.head); err != nil {
			t.Fatal(err)
		}
		want := written(t, &plain)
		for range 4 {
			asking.Go(func() {
				resp := new(fasthttp.Response)
				for i := range 20 {
					asServed(resp)
					if err := message.ReplayFrom(&known, resp, r.status, r.header, body, r.head); err != nil {
						t.Error(err)
					}
					// What happens to a response must not happen to the next one.
					resp.Header.Set("X-Later", fmt.Sprint(i))
					resp.Header.Del("X-Later")
					if got := written(t, resp); got != want {
						t.Errorf("%s, time %d:\n%q\ninstead of\n%q", name, i, got, want)
						return
					}
					resp.Header.Set("X-Lower", "changed")
					resp.Header.SetStatusCode(500)
				}
			})
		}
	}
	asking.Wait()
}

// Headers that differ only in a digit are told apart.
func TestKnownHeadsAreToldApart(t *testing.T) {
	t.Parallel()
	var known message.Heads
	resp := new(fasthttp.Response)
	for round := range 3 {
		for n := range 300 {
			header := linesOf("X-Number", fmt.Sprint(n))
			for range 2 {
				if err := message.ReplayFrom(&known, asServed(resp), 200, header, nil, false); err != nil {
					t.Fatal(err)
				}
				if got := string(resp.Header.Peek("X-Number")); got != fmt.Sprint(n) {
					t.Fatalf("round %d: %d got %s", round, n, got)
				}
			}
		}
	}
}

// Bytes that the caller uses again are no part of what is known.
func TestKnownHeadsHaveTheirOwnBytes(t *testing.T) {
	t.Parallel()
	var known message.Heads
	header, resp := linesOf("X-Name", "first"), new(fasthttp.Response)
	for range 3 {
		if err := message.ReplayFrom(&known, asServed(resp), 200, header, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	copy(header[0].Value, "other")
	if err := message.ReplayFrom(&known, asServed(resp), 200, header, nil, false); err != nil {
		t.Fatal(err)
	}
	if got := string(resp.Header.Peek("X-Name")); got != "other" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkReplay(b *testing.B) {
	header := linesOf("Content-Type", "application/json", "Date", "Mon, 02 Jan 2006 15:04:05 GMT", "X-Request-Id", "abc", "Etag", `"1"`)
	for _, known := range []*message.Heads{nil, new(message.Heads)} {
		b.Run(fmt.Sprint("known=", known != nil), func(b *testing.B) {
			b.ReportAllocs()
			resp := new(fasthttp.Response)
			for b.Loop() {
				asServed(resp)
				if err := message.ReplayFrom(known, resp, 201, header, nil, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
