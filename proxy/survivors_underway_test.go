package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// lengthEcho answers with a length, and then with what it reads, as it comes.
func lengthEcho(n int) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
		_, _ = io.Copy(c, q.Body)
		_, _ = io.Copy(io.Discard, br) // until the proxy closes
	}
}

// A backend may answer while it reads, whatever the framing of either.
func TestThirtyMegabytesThereAndBack(t *testing.T) {
	t.Parallel()
	const size, piece = 30 << 20, 1 << 20
	for name, talk := range map[string]func(net.Conn, *bufio.Reader){"length": lengthEcho(size), "chunked": chunkedEcho} {
		for _, framing := range []string{fmt.Sprint("Content-Length: ", size), "Transfer-Encoding: chunked"} {
			t.Run(name+", "+framing, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, backendtest.OK, to(rawBackend(t, talk)))
				c, br := dial(t, r.addr)
				_ = c.SetDeadline(time.Now().Add(patience))
				go func() { // what is missing is noticed below
					_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+framing+"\r\n\r\n")
					for i := range size / piece {
						text := strings.Repeat(string(rune('a'+i%26)), piece)
						if strings.HasPrefix(framing, "T") {
							text = fmt.Sprintf("%x\r\n%s\r\n", piece, text)
						}
						_, _ = io.WriteString(c, text)
					}
					if strings.HasPrefix(framing, "T") {
						_, _ = io.WriteString(c, "0\r\n\r\n")
					}
				}()
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i := range size / piece {
					got := make([]byte, piece)
					if _, err := io.ReadFull(resp.Body, got); err != nil || strings.Trim(string(got), string(rune('a'+i%26))) != "" {
						t.Fatalf("megabyte %d is another one, %v", i, err)
					}
				}
				if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
					t.Errorf("%d bytes more, %v", len(rest), err)
				}
			})
		}
	}
}

// Client and backend speak in turns, in chunks; whoever speaks first is waited for.
func TestLinesInTurns(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, to(rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		lines := bufio.NewReader(q.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\n")
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			_, _ = fmt.Fprintf(c, "%x\r\nto %s\r\n", len(line)+3, line)
		}
		_, _ = io.WriteString(c, "0\r\n\r\n")
	})))
	c, br := dial(t, r.addr)
	_ = c.SetDeadline(time.Now().Add(patience))
	send(t, c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	readExactly(t, lines, "hello\n")
	for i := range 20 {
		line := fmt.Sprintf("line %d\n", i)
		send(t, c, fmt.Sprintf("%x\r\n%s\r\n", len(line), line))
		readExactly(t, lines, "to "+line)
	}
	send(t, c, "0\r\n\r\n")
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v at the end", rest, err)
	}
}

// A header with lines that end in LF alone is answered for at once, in whatever pieces
// it comes, and never leaves its body behind.
func TestBareLFInAResponse(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		"HTTP/1.1 200 OK\nContent-Length: 2\n\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\n\n", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\n", "HTTP/1.1 200 OK\nX: y\n z\nContent-Length: 2\n\n",
	} {
		for _, piecemeal := range []bool{false, true} {
			r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
				for _, b := range []byte(header) {
					if piecemeal {
						c.Raw(string(b))
					}
				}
				if !piecemeal {
					c.Raw(header)
				}
				c.Raw("ok")
			})
			for _, key := range []string{"", "Idempotency-Key: k\r\n", "Idempotency-Key: k\r\n"} {
				a := r.one("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + key + "Content-Length: 1\r\n\r\nx")
				if a.StatusCode != 502 && (a.StatusCode != 200 || a.body != "ok") {
					t.Errorf("%q, key %q: %d %q", header, key, a.StatusCode, a.body)
				}
			}
		}
	}
}

// Sixteen interim responses are as good as none, and a client of HTTP/1.0 gets none.
func TestSixteenInterimResponses(t *testing.T) {
	t.Parallel()
	for _, hints := range []bool{false, true} {
		b := newRecorder(t, always(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 16)+"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) { c.EarlyHints = hints })
		for _, key := range []string{"", "Idempotency-Key: k\r\n"} {
			for _, version := range []string{"1.1", "1.0"} {
				all := parse(t, r.exchange("POST / HTTP/"+version+"\r\nHost: x\r\nConnection: close\r\n"+key+"Content-Length: 1\r\n\r\nx"))
				want := 1
				if hints && key == "" && version == "1.1" {
					want = 17
				}
				if len(all) != want || all[len(all)-1].StatusCode != 200 || all[len(all)-1].body != "ok" {
					t.Errorf("hints %v, HTTP/%s, key %q: %d answers, want %d", hints, version, key, len(all), want)
				}
			}
		}
	}
}

// Who has answered has executed, and is not asked again.
func TestLongHeaderIsExecutedOnce(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16 << 10, 17 << 10, 40 << 10, 64 << 10, 66 << 10, 300 << 10} {
		for _, policy := range []idem.Ambiguity{idem.AmbiguousRelease, idem.AmbiguousHold} {
			b := newRecorder(t, always("HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("x", size)+"\r\nContent-Length: 2\r\n\r\nok"))
			r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) { c.Policy.OnAmbiguous = policy })
			for range 3 {
				if got := status(r.exchange(ofKeyAndClose("k"))); got != "200" && got != "502" && got != "409" {
					t.Errorf("%d: %s", size, got)
				}
			}
			if n := len(b.requests()); n != 1 {
				t.Errorf("a header of %d bytes: %d executions, want 1", size, n)
			}
		}
	}
}

func ofKeyAndClose(key string) string {
	return "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: " + key + "\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
}

// A client of HTTP/1.0 knows no chunks: what has no length ends with the connection.
func TestNoChunksForHTTP10(t *testing.T) {
	t.Parallel()
	const chunkedOK = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("0123456789", 20_000)
	for name, c := range map[string]struct {
		response, want string
		closes         bool
	}{
		"chunked":        {chunkedOK + "2\r\nok\r\n0\r\n\r\n", "ok", false},
		"chunked, long":  {chunkedOK + hex(len(long)) + "\r\n" + long + "\r\n0\r\n\r\n", long, false},
		"trailers":       {"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", "ok", false},
		"until it ends":  {"HTTP/1.1 200 OK\r\n\r\n" + long, long, true},
		"with a length":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false},
		"length and all": {fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), long, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(conn backendtest.Conn, _ *backendtest.Request) {
				conn.Raw(c.response)
				if c.closes {
					_ = conn.Close()
				}
			}, func(c *proxy.Config) { c.MaxResponseBody = 100_000 })
			for _, kept := range []string{"", "Connection: keep-alive\r\n"} {
				for _, key := range []string{"", "Idempotency-Key: k\r\n", "Idempotency-Key: k\r\n"} {
					text := r.exchange("POST / HTTP/1.0\r\n" + kept + key + "Content-Length: 1\r\n\r\nx")
					if strings.HasPrefix(text, "HTTP/1.1 409") { // too large to be kept
						continue
					}
					header, body, _ := strings.Cut(text, "\r\n\r\n")
					if status(text) != "200" || body != c.want {
						t.Errorf("%q %q: %d bytes after %q", kept, key, len(body), header)
					}
					for _, field := range []string{"Transfer-Encoding", "Trailer"} {
						if values := valuesOf(text, field); len(values) > 0 {
							t.Errorf("%q %q: %s: %v", kept, key, field, values)
						}
					}
				}
			}
		})
	}
}

// A body of a hundred bytes has a time to arrive in, as any other.
func TestHalfASmallBody(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "Idempotency-Key: k\r\n"} {
		for _, body := range []string{"Content-Length: 100\r\n\r\n" + strings.Repeat("x", 50), "Transfer-Encoding: chunked\r\n\r\n64\r\nxxx"} {
			b := newRecorder(t, okay)
			r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) { c.BodyTimeout, c.HeaderTimeout = 50*time.Millisecond, time.Hour })
			c, br := dial(t, r.addr)
			_ = c.SetDeadline(time.Now().Add(patience))
			send(t, c, "POST / HTTP/1.1\r\nHost: x\r\n"+key+body)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			if resp.StatusCode != 408 || !resp.Close {
				t.Errorf("key %q, %.30q: %d, to be closed: %v; want 408", key, body, resp.StatusCode, resp.Close)
			}
			if all := b.requests(); len(all) > 0 {
				t.Errorf("key %q, %.30q: the backend got %q", key, body, all)
			}
		}
	}
}

// What a replay of HEAD says of a length is what the backend said.
func TestHeadReplayInventsNothing(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]string{
		"": "", "Content-Length: 0\r\n": "0", "Content-Length: 7\r\n": "7", "Transfer-Encoding: chunked\r\n": "",
	} {
		b := newRecorder(t, always("HTTP/1.1 200 OK\r\nX-A: 1\r\n"+fields+"\r\n"))
		r := newRig(t, backendtest.OK, to(b.origin))
		for i := range 3 {
			text := r.exchange("HEAD / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nConnection: close\r\n\r\n")
			if got := strings.Join(valuesOf(text, "Content-Length"), ","); got != want || status(text) != "200" || !strings.HasSuffix(text, "\r\n\r\n") {
				t.Errorf("%q, answer %d: %q, want the length %q", fields, i, text, want)
			}
			if marks := len(valuesOf(text, "Idempotent-Replayed")); marks != min(i, 1) {
				t.Errorf("%q, answer %d has %d marks of a replay", fields, i, marks)
			}
		}
		if n := len(b.requests()); n != 1 {
			t.Errorf("%d executions", n)
		}
	}
}

// A backend that marks replays of its own does not make it two marks.
func TestReplayIsMarkedOnce(t *testing.T) {
	t.Parallel()
	for _, own := range []string{"Idempotent-Replayed: true\r\n", "idempotent-replayed: false\r\n", "Idempotent-Replayed: a\r\nIDEMPOTENT-REPLAYED: b\r\n"} {
		b := newRecorder(t, always("HTTP/1.1 200 OK\r\n"+own+"Content-Length: 2\r\n\r\nok"))
		r := newRig(t, backendtest.OK, to(b.origin))
		for i := range 3 {
			text := r.exchange(ofKeyAndClose("k"))
			if values := valuesOf(text, "Idempotent-Replayed"); i > 0 && (len(values) != 1 || values[0] != "true") {
				t.Errorf("%q: the replay is marked %q", own, values)
			}
		}
	}
}

// A client's connection is closed after an answer that came before the request was
// there. One that came after its end keeps it, however soon it came.
func TestWholeUploadKeepsItsConnection(t *testing.T) {
	t.Parallel()
	b := newRecorder(t, okay)
	r := newRig(t, backendtest.OK, to(b.origin))
	c, br := dial(t, r.addr)
	_ = c.SetDeadline(time.Now().Add(patience))
	closed := 0
	for range 1000 {
		send(t, c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" {
			t.Fatalf("%q, %v", body, err)
		}
		if resp.Close {
			closed++
			_ = c.Close()
			c, br = dial(t, r.addr)
			_ = c.SetDeadline(time.Now().Add(patience))
		}
	}
	if closed > 0 {
		t.Errorf("%d of 1000 requests that had come whole closed their connections", closed)
	}
}
