package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

func hold(c *proxy.Config) { c.Policy.OnAmbiguous = idem.AmbiguousHold }

// The response is cut after each of its bytes: nothing of it is passed on as
// complete, the key is free at once, and the retry is stored.
func TestCutAfterEveryByte(t *testing.T) {
	t.Parallel()
	for name, whole := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-A: 1\r\n\r\nhello, world",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
	} {
		for _, how := range []string{"FIN", "RST"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
					if q.Number == 1 {
						var n int
						_, _ = fmt.Sscanf(q.URL.Path, "/%d", &n)
						c.Raw(whole[:n])
						if how == "RST" {
							c.Reset()
						}
						_ = c.Close()
						return
					}
					c.Raw(whole)
				})
				for n := range len(whole) {
					key := fmt.Sprint(n)
					r.isProblem(r.do("POST", "/"+key, key, "x"), 502, "backend-cut")
					if a := r.do("POST", "/"+key, key, "x"); a.body != "hello, world" || a.Header.Get("Idempotent-Replayed") != "" {
						t.Errorf("cut after %d: the retry got %d %q", n, a.StatusCode, a.body)
					}
					if a := r.do("POST", "/"+key, key, "x"); a.body != "hello, world" || a.Header.Get("Idempotent-Replayed") != "true" {
						t.Errorf("cut after %d: the replay is %d %q", n, a.StatusCode, a.body)
					}
					r.executions(key, 2)
				}
			})
		}
	}
}

func TestP7CutIsHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
		_ = c.Close()
	}, hold)
	r.isProblem(r.post("k", "x"), 502, "backend-outcome-unknown")
	for range 3 {
		r.isProblem(r.post("k", "x"), 409, "outcome-unknown")
	}
	r.executions("k", 1)
	if err := r.store.Resolve(context.Background(), mustKey("k"), idem.Owner{}, &idem.Response{Status: 201, Body: []byte("by hand")}); err != nil {
		t.Fatal(err)
	}
	if a := r.post("k", "x"); a.StatusCode != 201 || a.body != "by hand" {
		t.Errorf("resolved: %d %q", a.StatusCode, a.body)
	}
	r.executions("k", 1)
}

func mustKey(s string) idem.Key {
	k, err := idem.ParseKey(s)
	if err != nil {
		panic(err)
	}
	return k
}

func TestMalformedResponses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"nonsense\r\n\r\n",
		"HTTP/1.1 abc OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX Y: 1\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		strings.Repeat("HTTP/1.1 102 Processing\r\nX: "+strings.Repeat("x", 1000)+"\r\n\r\n", 1100) +
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	} {
		r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			if q.Number == 1 {
				c.Raw(raw)
				return
			}
			backendtest.OK(c, q)
		})
		a := r.post("k", "x")
		r.isProblem(a, 502, "backend-cut")
		if a := r.post("k", "x"); a.body != "execution 2" {
			t.Errorf("%.60q: the retry got %d %q", raw, a.StatusCode, a.body)
		}
		if n := r.backend.Conns(); n != 2 {
			t.Errorf("%.60q: %d connections; the bad one must not be used again", raw, n)
		}
	}
}

// What comes after the announced length belongs to nobody, and never becomes
// the next response.
func TestSurplusIsNotTheNextResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		c.Raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d", q.Number) +
			"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
	})
	for i := range 20 {
		for _, key := range []string{fmt.Sprint("k", i), ""} {
			if a := r.post(key, "x"); len(a.body) != 2 {
				t.Fatalf("key %q got %q", key, a.body)
			}
		}
	}
	if n := r.backend.Conns(); n != 40 {
		t.Errorf("%d connections for 40 requests: one with a surplus on it was used again", n)
	}
}

func TestUnreachableBackendSendsNothing(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*proxy.Config){func(*proxy.Config) {}, hold} {
		r := newRig(t, backendtest.OK, change)
		r.backend.Close()
		for range 3 {
			r.isProblem(r.post("k", "x"), 502, "backend-unreachable")
		}
		r.outcome(proxy.BackendUnreachable, 3)
	}
}

func TestBackendTimeout(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(backendtest.Conn){
		"before the header": func(backendtest.Conn) {},
		"in the header":     func(c backendtest.Conn) { c.Raw("HTTP/1.1 200 OK\r\n") },
		"in the body":       func(c backendtest.Conn) { c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel") },
		"drop by drop": func(c backendtest.Conn) {
			c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
			for range 100 {
				c.Raw("x")
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
					if q.Number == 1 {
						answer(c)
						time.Sleep(time.Minute)
						_ = c.Close()
						return
					}
					backendtest.OK(c, q)
				}, func(c *proxy.Config) { c.BackendTimeout = 20 * time.Second })
				start := time.Now()
				r.isProblem(r.post("k", "x"), 504, "backend-timeout")
				if d := time.Since(start).Round(time.Second); d != 20*time.Second { // of bubble time
					t.Errorf("after %v", d)
				}
				if a := r.post("k", "x"); a.body != "execution 2" {
					t.Errorf("the retry got %d %q", a.StatusCode, a.body)
				}
			})
		})
	}
}

// The backend closes its keep-alive connections whenever it likes: no request
// fails for that, and none executes twice.
func TestP4ClosedKeepAliveIsNoticedBeforeWriting(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	for i := range 300 {
		key := fmt.Sprint("k", i)
		if a := r.post(key, "x"); a.StatusCode != 200 {
			t.Fatalf("request %d: %d %s", i, a.StatusCode, a.body)
		}
		r.backend.CloseConns()
		r.executions(key, 1)
	}
}

// A backend that closes after each answer without saying so, under load.
func TestP4CloseAfterEachAnswerUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		backendtest.OK(c, q)
		_ = c.Close()
	})
	var failed, double atomic.Int64
	var done sync.WaitGroup
	for w := range 16 {
		done.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("%d-%d", w, i)
				a, err := r.try("POST", "/pay", key, "x")
				if err != nil || a.StatusCode != 200 {
					failed.Add(1)
				}
				if r.backend.Executions(key) > 1 {
					double.Add(1)
				}
			}
		})
	}
	done.Wait()
	// A close that crosses our request on the wire cannot be told from a crash:
	// those few are 502, and never a second execution.
	if double.Load() != 0 {
		t.Errorf("%d keys executed twice", double.Load())
	}
	if failed.Load() > 40 {
		t.Errorf("%d of 800 failed", failed.Load())
	}
}

// GET and PUT are what fasthttp's own client would repeat.
func TestP4NoSilentResend(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST"} {
		for _, key := range []string{method, ""} {
			before := r.backend.Total()
			if a := r.do(method, "/", key, ""); a.StatusCode != 502 {
				t.Errorf("%s with key %q: %d", method, key, a.StatusCode)
			}
			if n := r.backend.Total() - before; n != 1 {
				t.Errorf("%s with key %q was sent %d times", method, key, n)
			}
		}
	}
}

func TestLargeResponseIsPassedOnAndNotKept(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	for name, frame := range map[string]func(c backendtest.Conn){
		"length":  func(c backendtest.Conn) { c.Answer(200, big, "X-A: 1") },
		"chunked": func(c backendtest.Conn) { c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(big)) },
		"close": func(c backendtest.Conn) {
			c.Raw("HTTP/1.1 200 OK\r\n\r\n" + big)
			_ = c.Close()
		},
	} {
		r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { frame(c) },
			func(c *proxy.Config) { c.MaxResponseBody = 64 << 10 })
		if a := r.post("k", "x"); a.StatusCode != 200 || a.body != big {
			t.Errorf("%s: %d, %d bytes, want %d", name, a.StatusCode, len(a.body), len(big))
		}
		r.isProblem(r.post("k", "x"), 409, "response-not-kept")
		r.executions("k", 1)
		r.outcome(proxy.NotReplayable, 1)
	}
}

func (r *rig) cutsCounted(want int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cuts != want {
		r.t.Errorf("%d cuts traced, want %d", r.cuts, want)
	}
}

func chunks(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(len(s), 10_000)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, s[:n])
		s = s[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// At the limit a response is kept, one byte over it is not.
func TestResponseLimit(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	for _, frame := range []string{"length", "chunked"} {
		for _, extra := range []int{-1, 0, 1} {
			body := strings.Repeat("x", limit+extra)
			r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
				if frame == "chunked" {
					c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(body))
					return
				}
				c.Answer(200, body)
			}, func(c *proxy.Config) { c.MaxResponseBody = limit })
			if a := r.post("k", "x"); a.body != body {
				t.Errorf("%s%+d: %d bytes", frame, extra, len(a.body))
			}
			replay := r.post("k", "x")
			if extra > 0 {
				r.isProblem(replay, 409, "response-not-kept")
			} else if replay.body != body {
				t.Errorf("%s%+d: the replay is %d %d bytes", frame, extra, replay.StatusCode, len(replay.body))
			}
			r.executions("k", 1)
		}
	}
}

// A large response is cut on the way: the client sees that it is incomplete, and
// the key is free (or held).
func TestLargeResponseCut(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{"Content-Length: 500000", "Transfer-Encoding: chunked"} {
		for _, policy := range []idem.Ambiguity{idem.AmbiguousRelease, idem.AmbiguousHold} {
			r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
				if q.Number > 1 {
					backendtest.OK(c, q)
					return
				}
				half := strings.Repeat("x", 250_000)
				if strings.HasPrefix(frame, "T") {
					half = strings.TrimSuffix(chunks(half), "0\r\n\r\n")
				}
				c.Raw("HTTP/1.1 200 OK\r\n" + frame + "\r\n\r\n" + half)
				_ = c.Close()
			}, func(c *proxy.Config) {
				c.MaxResponseBody = 1000
				c.Policy.OnAmbiguous = policy
			})
			if a, err := r.try("POST", "/pay", "k", "x"); err == nil {
				t.Errorf("%s: the client got %d and %d bytes as if complete", frame, a.StatusCode, len(a.body))
			}
			r.cutsCounted(1)
			a := r.post("k", "x")
			if policy == idem.AmbiguousHold {
				r.isProblem(a, 409, "outcome-unknown")
				r.executions("k", 1)
			} else if a.body != "execution 2" {
				t.Errorf("%s: the retry got %d %q", frame, a.StatusCode, a.body)
			}
		}
	}
}

// dial opens a raw connection to the proxy and sends text.
func (r *rig) dial(text string) net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestP6ClientLeavesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	arrived, proceed := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		close(arrived)
		<-proceed
		backendtest.OK(c, q)
	})
	c := r.dial("POST /pay HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx")
	<-arrived
	_ = c.Close()
	close(proceed)
	for {
		a := r.post("k", "x", "Host: x")
		if a.StatusCode == 409 {
			continue // still on its way to the store
		}
		if a.body != "execution 1" {
			t.Errorf("the retry got %d %q", a.StatusCode, a.body)
		}
		break
	}
	r.executions("k", 1)
}

// The client leaves in the middle of a response too large to keep: it is read to
// its end all the same, and the key is completed.
func TestP6ClientLeavesALargeResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Answer(200, strings.Repeat("x", 32<<20))
	}, func(c *proxy.Config) { c.MaxResponseBody = 1000 })
	c := r.dial("POST /pay HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx")
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for {
		a := r.post("k", "x", "Host: x")
		if strings.Contains(a.body, "in-progress") {
			continue
		}
		r.isProblem(a, 409, "response-not-kept")
		break
	}
	r.executions("k", 1)
}

func TestClientLeavesWhileUploading(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	for name, text := range map[string]string{
		"length":  "POST /pay HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 100\r\n\r\nx",
		"chunked": "POST /pay HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"garbage": "POST /pay HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		c := r.dial(text)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		r.isProblem(answer{resp, string(b)}, 400, "body-incomplete")
	}
	if _, err := r.store.Get(context.Background(), mustKey("k")); err == nil {
		t.Error("a record was left behind")
	}
	r.executions("k", 0)
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		c.Answer(200, "expect="+q.Header.Get("Expect")+" body="+string(q.Payload))
	})
	for _, key := range []string{"k", ""} {
		if a := r.post(key, "payload", "Expect: 100-continue"); a.body != "expect= body=payload" {
			t.Errorf("key %q: %d %q", key, a.StatusCode, a.body)
		}
	}
}

func TestWhatTheBackendSees(t *testing.T) {
	t.Parallel()
	var seen http.Header
	var host, target string
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		seen, host, target = q.Header, q.Host, q.RequestURI
		backendtest.OK(c, q)
	})
	const path = "/a//b/../c%2Fd;x?q=1&q=%20+#"
	c := r.dial("POST " + strings.TrimSuffix(path, "#") + " HTTP/1.1\r\nHost: shop.example\r\nidempotency-key: k\r\n" +
		"Connection: X-Hop, Idempotency-Key, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\n" +
		"Upgrade: h2c\r\nX-Forwarded-For: 10.1.2.3\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\n" +
		"Via: 1.0 fred\r\nCookie: a=b;c=d\r\nX-Repeat: 2\r\nX-Repeat: 1\r\nContent-Length: 0\r\n\r\n")
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	if host != "shop.example" || target != strings.TrimSuffix(path, "#") {
		t.Errorf("Host %q, target %q", host, target)
	}
	for name, want := range map[string]string{
		"Idempotency-Key": "k", "X-Hop": "", "Keep-Alive": "", "Te": "", "Proxy-Authorization": "", "Upgrade": "",
		"Connection": "", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http",
		"X-Forwarded-Host": "shop.example", "Via": "1.0 fred, 1.1 idemproxy", "Cookie": "a=b;c=d",
		"Content-Type": "", "User-Agent": "",
	} {
		if got := strings.Join(seen.Values(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := fmt.Sprint(seen.Values("X-Repeat")); got != "[2 1]" {
		t.Errorf("X-Repeat: %s", got)
	}
}

// Only who is trusted is believed where a request came from.
func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, trusted string
		want          http.Header
		client        string
	}{
		{"trusted", "127.0.0.0/8", http.Header{
			"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"shop.example"},
			"X-Forwarded-For": {"192.0.2.7, 203.0.113.9, 127.0.0.5, 127.0.0.1"}, "Forwarded": {`for="[::1]", for=127.0.0.1`},
		}, "203.0.113.9"},
		{"somebody else", "10.0.0.0/8", http.Header{
			"X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"api.example"}, "X-Forwarded-For": {"127.0.0.1"}, "Forwarded": nil,
		}, "invalid IP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var seen http.Header
			var client string
			r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
				seen = q.Header
				backendtest.OK(conn, q)
			}, func(cfg *proxy.Config) {
				cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)}
				cfg.Trace.Done = func(q *proxy.Report) { client = q.Client.String() }
			})
			r.post("k", "x", "Host: api.example", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example",
				"X-Forwarded-For: 192.0.2.7, 203.0.113.9, 127.0.0.5", `Forwarded: for="[::1]"`)
			for name, want := range c.want {
				if got := seen.Values(name); !slices.Equal(got, want) {
					t.Errorf("%s: the backend sees %q, want %q", name, got, want)
				}
			}
			if client != c.client {
				t.Errorf("the client is %s, want %s", client, c.client)
			}
		})
	}
}

// Without a key nothing is buffered: the first event arrives while the second
// has not been sent.
func TestPassThroughStreams(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n")
		<-proceed
		c.Raw("7\r\nsecond\n\r\n0\r\n\r\n")
	})
	resp, err := r.client.Get("http://" + r.addr + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	br := bufio.NewReader(resp.Body)
	if line, err := br.ReadString('\n'); line != "first\n" || err != nil {
		t.Errorf("first event: %q, %v", line, err)
	}
	close(proceed)
	if line, err := br.ReadString('\n'); line != "second\n" || err != nil {
		t.Errorf("second event: %q, %v", line, err)
	}
	r.executions("", 1)
}

func TestPassThroughCutIsSeenByTheClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 500_000))
		_ = c.Close()
	})
	if a, err := r.try("GET", "/", "", ""); err == nil {
		t.Errorf("the client got %d bytes as if complete", len(a.body))
	}
	r.cutsCounted(1)
}

func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	for _, c := range []struct {
		text   string
		status int
	}{
		{"nonsense\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nbad name: 1\r\nno-colon\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", 400},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", 431},
		{"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 501},
	} {
		conn := r.dial(c.text)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%.40q: %v", c.text, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%.40q: %d, want %d", c.text, resp.StatusCode, c.status)
		}
	}
	if n := r.backend.Total(); n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
}

func TestShutdownWaitsForWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	arrived, proceed := make(chan struct{}), make(chan struct{})
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		close(arrived)
		<-proceed
		backendtest.OK(c, q)
	})
	r := newRig(t, backendtest.OK)
	_ = r
	engine := idem.NewEngine(idem.Config{Store: r.store})
	s, err := proxy.New(proxy.Config{Engine: engine, Rules: proxy.Rules{Policy: idem.DefaultPolicy()}, Upstream: upstream.Config{Backends: []string{b.URL()}}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	idle, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close() }()
	busy := &rig{t: t, addr: ln.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	got := make(chan answer, 1)
	go func() { got <- busy.post("k", "x") }()
	<-arrived
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	if err := <-served; err != nil { // the listener is closed first
		t.Error(err)
	}
	select {
	case err := <-down:
		t.Fatalf("shut down while a request was under way: %v", err)
	default:
	}
	close(proceed)
	if a := <-got; a.body != "execution 1" {
		t.Errorf("the request under way got %d %q", a.StatusCode, a.body)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	engine.Close(ctx)
}

// A header that trickles in is given up; a body may take longer.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := bubbleRig(t, backendtest.OK, func(c *proxy.Config) { c.HeaderTimeout, c.BodyTimeout = 10*time.Second, time.Minute })
		dial := func() net.Conn {
			c, err := r.client.Transport.(*http.Transport).DialContext(context.Background(), "", "") //nolint:forcetypeassert // ours
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		slow := dial()
		start := time.Now()
		go func() {
			for _, b := range []byte("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: 0123456789\r\n\r\n") {
				if _, err := slow.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
		if err != nil || resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("a slow header: %v, %v", resp, err)
		}
		if d := time.Since(start).Round(time.Second); d != 10*time.Second { // of bubble time
			t.Errorf("given up after %v", d)
		}
		_ = slow.Close()

		body := dial()
		_, _ = io.WriteString(body, "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 2000\r\n\r\na")
		time.Sleep(30 * time.Second)
		_, _ = io.WriteString(body, strings.Repeat("b", 1999))
		resp, err = http.ReadResponse(bufio.NewReader(body), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("a slow body: %v, %v", resp, err)
		}
		_ = body.Close()
	})
}

// A backend that accepts connections and closes them at once is not asked again
// and again.
func TestBackendThatClosesNewConnections(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int64
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close() })
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.Upstream.Backends = []string{"http://" + ln.Addr().String()} })
	for i := range 10 {
		if a := r.post(fmt.Sprint(i), "x"); a.StatusCode != 502 {
			t.Errorf("got %d %s", a.StatusCode, a.body)
		}
	}
	if n := accepted.Load(); n != 10 {
		t.Errorf("%d connections for 10 requests, want one each", n)
	}
}

// A client that breaks its own upload off is not blamed on the backend.
func TestPassThroughUploadBrokenOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	c := r.dial("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil { //nolint:forcetypeassert // we dialled TCP
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	r.isProblem(answer{resp, string(b)}, 400, "body-incomplete")
	r.outcome(proxy.Refused, 1)
	r.outcome(proxy.BackendCut, 0)
	for deadline := time.Now().Add(time.Minute); r.backend.Incomplete() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the backend does not hear that the request is incomplete")
		}
	}
	r.executions("", 0)
}
