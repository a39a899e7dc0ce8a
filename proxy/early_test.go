package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// earlyRig is a proxy that says which ids it reported.
func earlyRig(t *testing.T, change ...func(*proxy.Config)) (*rig, <-chan string) {
	t.Helper()
	ids := make(chan string, 64)
	change = append(change, func(c *proxy.Config) {
		c.MaxHeader, c.HeaderTimeout = 1<<10, 300*time.Millisecond
		c.Trace.Done = func(q *proxy.Report) { ids <- string(q.RequestID) }
	})
	return newRig(t, backendtest.OK, change...), ids
}

// Whoever is refused before the request has arrived finds his own id in the answer,
// and in the log, if it has arrived.
func TestEarlyAnswersHaveTheClientsID(t *testing.T) {
	t.Parallel()
	const id = "X-Request-Id: mine-1\r\n"
	for _, c := range []struct{ name, text, want string }{
		{"another version", "GET / HTTP/3.0\r\nHost: x\r\n" + id + "\r\n", "505"},
		{"no HTTP", "GET / HTP/1.1\r\nHost: x\r\n" + id + "\r\n", "400"},
		{"fragment", "GET /#a HTTP/1.1\r\nHost: x\r\n" + id + "\r\n", "400"},
		{"folded", "GET / HTTP/1.1\r\n" + id + "A: b\r\n c\r\n\r\n", "400"},
		{"bare LF", "GET / HTTP/1.1\r\n" + id + "Host: x\n\r\n", "400"},
		{"length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n" + id + "\r\nx", "400"},
		{"coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n" + id + "\r\nx", "400"},
		{"any case", "GET / HTTP/3.0\r\nHost: x\r\nx-request-ID:\t mine-1 \r\n\r\n", "505"},
		{"header too large", "GET / HTTP/1.1\r\nHost: x\r\n" + id + "Large: " + strings.Repeat("x", 2<<10) + "\r\n\r\n", "431"},
		{"header too slow", "GET / HTTP/1.1\r\nHost: x\r\n" + id, "408"},
		{"body too slow", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + id + "\r\nx", "408"},
		{"chunk", "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n" + id + "\r\nzz\r\n", "400"},
		{"CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" + id + "\r\n", "501"},
		{"behind another one", again + "GET / HTTP/3.0\r\nHost: x\r\n" + id + "\r\n", "505"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, ids := earlyRig(t)
			conn, br := dial(t, r.addr)
			send(t, conn, c.text)
			for range strings.Count(c.text, again) {
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				<-ids
			}
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Header.Get("X-Request-Id"); fmt.Sprint(resp.StatusCode) != c.want || got != "mine-1" {
				t.Errorf("%d with id %q, want %s with the client's", resp.StatusCode, got, c.want)
			}
			if got := <-ids; got != "mine-1" {
				t.Errorf("reported with id %q", got)
			}
		})
	}
}

// An id that is none, or another request's, is not taken: there is one made here.
func TestEarlyAnswersHaveNobodyElsesID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text string }{
		{"none", "GET / HTTP/3.0\r\nHost: x\r\n\r\n"},
		{"of the next one", "GET / HTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: not-mine\r\n\r\n"},
		{"of the one before", again[:len(again)-2] + "X-Request-Id: not-mine\r\n\r\n" + "GET / HTTP/1.1\r\nHost: x\n\r\n"},
		{"with a control character", "GET / HTP/1.1\r\nX-Request-Id: not-\x1bmine\r\n\r\n"},
		{"too long", "GET /#x HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + strings.Repeat("mine", 65) + "\r\n\r\n"},
		{"with a CR", "GET / HTP/1.1\r\nX-Request-Id: not-\rSet-Cookie: mine\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, ids := earlyRig(t)
			conn, br := dial(t, r.addr)
			send(t, conn, c.text)
			for {
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				told := <-ids
				if resp.StatusCode == 200 {
					continue
				}
				if got := resp.Header.Get("X-Request-Id"); len(got) != 32 || strings.Contains(got, "mine") || got != told {
					t.Errorf("%d with id %q, reported with %q", resp.StatusCode, got, told)
				}
				return
			}
		})
	}
}

// Who is turned away since there is too much under way is told so under his own id.
func TestOverloadedHasTheClientsID(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
		entered <- struct{}{}
		<-proceed
		backendtest.OK(conn, q)
	}, func(c *proxy.Config) { c.MaxInFlight = 1 })
	done := make(chan answerOrError, 1)
	go func() {
		a, err := r.try(http.MethodGet, "/", "", "")
		done <- answerOrError{a, err}
	}()
	<-entered
	a := r.do(http.MethodGet, "/", "", "", "X-Request-Id: mine")
	r.isProblem(a, 503, "overloaded")
	if got := a.Header.Get("X-Request-Id"); got != "mine" {
		t.Errorf("id %q", got)
	}
	close(proceed)
	<-done
}

// Who asks before sending is told at once what the header is enough to know, and is
// not asked for the body first.
func TestExpectIsRefusedByTheHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, fields, problem string
		status                int
		change                func(*proxy.Config)
	}{
		{"too large", "Idempotency-Key: k\r\nContent-Length: 11\r\n", "body-too-large", 413, func(c *proxy.Config) { c.MaxRequestBody = 10 }},
		{"no key", "Content-Length: 11\r\n", "key-missing", 400, func(c *proxy.Config) { c.RequireKey = true }},
		{"key", "Idempotency-Key: \x80\r\nContent-Length: 11\r\n", "key-invalid", 400, func(*proxy.Config) {}},
		{"no bytes", "Idempotency-Key: k\r\nTransfer-Encoding: chunked\r\nContent-Length: 11\r\n", "request-invalid", 400, func(*proxy.Config) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, ids := earlyRig(t, c.change)
			a := r.raw("POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nExpect: 100-continue\r\n" + c.fields + "\r\n")
			r.isProblem(a, c.status, c.problem)
			if got := <-ids; !a.Close || got != "mine" || a.Header.Get("X-Request-Id") != "mine" {
				t.Errorf("closes: %v; reported with id %q, answered with %q", a.Close, got, a.Header.Get("X-Request-Id"))
			}
			if n := r.backend.Total(); n != 0 {
				t.Errorf("%d executions", n)
			}
		})
	}
}

// Who may send is asked to, once, and is reported once; who has too much under way is
// not.
func TestExpectCountsOnce(t *testing.T) {
	t.Parallel()
	r, ids := earlyRig(t, func(c *proxy.Config) { c.MaxRequestBody, c.MaxPerKey, c.MaxInFlight = 10, 1, 1 })
	for range 3 {
		conn, br := dial(t, r.addr)
		send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
		readExactly(t, br, "HTTP/1.1 100 Continue\r\n\r\n")
		send(t, conn, "0123456789")
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		<-ids
	}
	r.executions("k", 1)
	if len(ids) > 0 {
		t.Errorf("%d reports too many", len(ids))
	}
}
