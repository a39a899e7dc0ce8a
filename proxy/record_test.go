package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// streamRig is a rig whose backend sends what it is told, as it is told.
type streamRig struct {
	*rig

	arrived chan struct{}
	say     chan string // a chunk; end, cut
	ended   chan proxy.StreamReport
	waiting chan int
	store   *watchedStore
}

// watchedStore tells what it has taken.
type watchedStore struct {
	*storetest.Memory

	stored  atomic.Bool
	refuses atomic.Bool
}

func (s *watchedStore) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	if s.refuses.Load() {
		return idem.ErrUnavailable
	}
	err := s.Memory.Complete(ctx, l, r)
	s.stored.Store(err == nil)
	return err
}

const eventStream = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked"

const (
	sayEnd = "end"
	sayCut = "cut"
)

func newStreamRig(t *testing.T, header string, change ...func(*proxy.Config)) *streamRig {
	t.Helper()
	s := &streamRig{
		arrived: make(chan struct{}, 16), say: make(chan string), ended: make(chan proxy.StreamReport, 16),
		waiting: make(chan int, 64), store: &watchedStore{Memory: storetest.NewMemory()},
	}
	chunked := strings.Contains(header, "chunked")
	s.rig = newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		s.arrived <- struct{}{}
		for first := true; ; first = false {
			said := <-s.say
			if first {
				c.Raw("HTTP/1.1 200 OK\r\n" + header + "\r\nX-Made: here\r\n\r\n")
			}
			switch {
			case said == sayCut:
				c.Reset()
				return
			case said == sayEnd && chunked:
				c.Raw("0\r\n\r\n")
				return
			case said == sayEnd:
				return
			case chunked && said != "":
				c.Raw(fmt.Sprintf("%x\r\n%s\r\n", len(said), said))
			default:
				c.Raw(said)
			}
		}
	}, append([]func(*proxy.Config){func(c *proxy.Config) {
		c.Stream, c.Join, c.MaxWait, c.ReadOn = true, true, time.Minute, time.Minute
		c.Trace.Streamed = func(r *proxy.StreamReport) { s.ended <- *r }
		c.Engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, s.store.Memory, s.store), Trace: idem.Trace{Waiting: func(delta int) { s.waiting <- delta }}})
	}}, change...)...)
	t.Cleanup(func() { s.rig.store = s.store.Memory })
	return s
}

// streamClient is a client that reads a response as it comes.
type streamClient struct {
	t      *testing.T
	resp   *http.Response
	cancel func()
}

func (s *streamRig) open(header ...string) *streamClient {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/chat", strings.NewReader("tell me"))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "k")
	for _, field := range header {
		name, value, _ := strings.Cut(field, ": ")
		req.Header.Set(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return &streamClient{s.t, resp, cancel}
}

// hears reads that, and no more.
func (l *streamClient) hears(want string) {
	l.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(l.resp.Body, got); err != nil || string(got) != want {
		l.t.Fatalf("heard %q, %v; want %q", got[:n], err, want)
	}
}

// rest reads to the end.
func (l *streamClient) rest() (string, error) {
	got, err := io.ReadAll(l.resp.Body)
	return string(got), err
}

func (l *streamClient) endsWith(want string) {
	l.t.Helper()
	if got, err := l.rest(); err != nil || got != want {
		l.t.Errorf("the rest: %q, %v; want %q", got, err, want)
	}
}

// holdsNothing ends the server, and looks what it counts as being in memory.
func (s *streamRig) holdsNothing() {
	s.t.Helper()
	s.client.CloseIdleConnections()
	if err := s.server.Shutdown(context.Background()); err != nil {
		s.t.Error(err)
	}
	if n, under := s.server.Buffered(), s.server.UnderWay(); n != 0 || under != 0 {
		s.t.Errorf("%d bytes are held, %d requests under way", n, under)
	}
}

// A stream is passed on as it comes; who comes later gets what was sent and then the rest;
// who comes after its end gets the replay.
func TestStream(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream)
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	<-s.arrived
	s.say <- "" // the header alone
	first := <-opened
	if first.resp.Header.Get("X-Made") != "here" || first.resp.Header.Get("Idempotent-Replayed") != "" || first.resp.ContentLength != -1 {
		t.Errorf("%v", first.resp.Header)
	}
	s.say <- "id: 1\ndata: a\n\n"
	first.hears("id: 1\ndata: a\n\n")
	second := s.open()
	second.hears("id: 1\ndata: a\n\n")
	if second.resp.StatusCode != 200 || second.resp.Header.Get("X-Made") != "here" || second.resp.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the second got %d %v", second.resp.StatusCode, second.resp.Header)
	}
	s.say <- "id: 2\ndata: b\n\n"
	first.hears("id: 2\ndata: b\n\n")
	second.hears("id: 2\ndata: b\n\n")
	third := s.open("Last-Event-ID: 1")
	third.hears("id: 2\ndata: b\n\n")
	s.say <- "data: c\n\n"
	s.say <- sayEnd
	for _, l := range []*streamClient{first, second, third} {
		l.endsWith("data: c\n\n")
		if !s.store.stored.Load() {
			t.Error("the end was told before the store had it")
		}
	}
	if end := <-s.ended; end.Ending != idem.Stored || !end.Kept || end.Joined != 2 || end.Err != nil || end.Bytes != 39 || end.Attempt != 1 {
		t.Errorf("ended as %+v", end)
	}
	s.open().endsWith("id: 1\ndata: a\n\nid: 2\ndata: b\n\ndata: c\n\n")
	s.open("Last-Event-ID: 2").endsWith("data: c\n\n")
	s.open("Last-Event-ID: 7").endsWith("id: 1\ndata: a\n\nid: 2\ndata: b\n\ndata: c\n\n")
	s.executions("k", 1)
	s.outcome(proxy.Joined, 2)
	s.outcome(proxy.Executed, 1)
}

// Of a response whose length is known the last byte is the end.
func TestStreamOfKnownLength(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789", 20_000)
	s := newStreamRig(t, fmt.Sprintf("Content-Length: %d", len(body)))
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	<-s.arrived
	s.say <- body[:len(body)/2]
	first := <-opened
	first.hears(body[:len(body)/4])
	second := s.open()
	if first.resp.ContentLength != int64(len(body)) || second.resp.ContentLength != int64(len(body)) {
		t.Errorf("lengths %d, %d", first.resp.ContentLength, second.resp.ContentLength)
	}
	s.say <- body[len(body)/2:]
	s.say <- sayEnd
	first.endsWith(body[len(body)/4:])
	if !s.store.stored.Load() {
		t.Error("the last byte was told before the store had it")
	}
	second.endsWith(body)
	s.open().endsWith(body)
	s.executions("k", 1)
}

// Who joins a response of known length behind an event is sent less than that length.
func TestEventsOfKnownLength(t *testing.T) {
	t.Parallel()
	one, two := "id: 1\ndata: "+strings.Repeat("a", 70_000)+"\n\n", "id: 2\ndata: "+strings.Repeat("b", 70_000)+"\n\n"
	s := newStreamRig(t, fmt.Sprintf("Content-Type: text/event-stream\r\nContent-Length: %d", len(one)+len(two)))
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	<-s.arrived
	s.say <- one
	first := <-opened
	first.hears(one)
	second := s.open("Last-Event-ID: 1")
	s.say <- two
	s.say <- sayEnd
	for _, client := range []*streamClient{first, second, s.open("Last-Event-ID: 1")} {
		if rest, err := client.rest(); err != nil || rest != two {
			t.Errorf("the rest has %d bytes, %v (%.300s); want the %d of the second event", len(rest), err, rest, len(two))
		}
	}
	s.executions("k", 1)
	s.holdsNothing()
}

// A backend may send more at once than is kept of a response.
func TestStreamInPiecesLargerThanIsKept(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream, func(c *proxy.Config) { c.MaxResponseBody = 1000 })
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	<-s.arrived
	s.say <- ""
	first := <-opened
	long := strings.Repeat("0123456789", 20_000)
	s.say <- long
	s.say <- sayEnd
	if rest, err := first.rest(); err != nil || rest != long {
		t.Errorf("the rest has %d bytes, %v; want all %d", len(rest), err, len(long))
	}
	if end := <-s.ended; end.Ending != idem.Stored || end.Kept || end.Bytes != len(long) {
		t.Errorf("ended as %+v", end)
	}
	s.holdsNothing()
}

// gatedStore takes a response when it is let.
type gatedStore struct {
	*storetest.Memory

	gate chan struct{}
}

func (s *gatedStore) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	<-s.gate
	return s.Memory.Complete(ctx, l, r)
}

// The end of a stream is told when the store has it, and not before.
func TestStreamEndsInTheStoreFirst(t *testing.T) {
	t.Parallel()
	for name, response := range map[string]string{
		"chunked":      eventStream + "\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"known length": "Content-Length: 3\r\n\r\nabc",
		"until close":  "Content-Type: text/event-stream\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &gatedStore{storetest.NewMemory(), make(chan struct{})}
				r := bubbleRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
					head, body, _ := strings.Cut(response, "\r\n\r\n")
					c.Raw("HTTP/1.1 200 OK\r\n" + head + "\r\n\r\n")
					synctest.Wait() // it does not come as a whole
					c.Raw(body)
					if name == "until close" {
						_ = c.Close()
					}
				}, func(c *proxy.Config) {
					c.Stream, c.StreamAbove = true, 2
					c.Engine.Close(context.Background())
					c.Engine = idem.NewEngine(idem.Config{Store: store})
				})
				done := make(chan answer, 1)
				go func() { done <- r.post("k", "x") }()
				time.Sleep(time.Second) // of the bubble's: all that can happen has happened
				select {
				case a := <-done:
					t.Errorf("answered before it was stored: %d %q", a.StatusCode, a.body)
				default:
					close(store.gate)
					if a := <-done; a.body != "abc" {
						t.Errorf("%d %q", a.StatusCode, a.body)
					}
				}
			})
		})
	}
}

// A first client that is slow is waited for, however long the response is.
func TestStreamWaitsForItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const pieces, size = 200, 10_000
		var sent atomic.Int32
		r := bubbleRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
			c.Raw("HTTP/1.1 200 OK\r\n" + eventStream + "\r\n\r\n")
			for range pieces {
				c.Raw(fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("x", size)))
				sent.Add(1)
			}
			c.Raw("0\r\n\r\n")
		}, func(c *proxy.Config) { c.Stream, c.MaxResponseBody = true, 50_000 })
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://proxy/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "k")
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // of the bubble's
		if sent.Load() == pieces {
			t.Error("nobody waited")
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != pieces*size {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = resp.Body.Close()
	})
}

// What breaks off is ambiguous, and complete for nobody.
func TestStreamIsCut(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]idem.Ambiguity{"released": idem.AmbiguousRelease, "held": idem.AmbiguousHold} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreamRig(t, eventStream, func(c *proxy.Config) { c.Policy.OnAmbiguous = on })
			opened := make(chan *streamClient)
			go func() { opened <- s.open() }()
			s.say <- "data: a\n\n"
			first := <-opened
			first.hears("data: a\n\n")
			second := s.open()
			second.hears("data: a\n\n")
			s.say <- sayCut
			for _, l := range []*streamClient{first, second} {
				if got, err := l.rest(); err == nil || got != "" {
					t.Errorf("%q, %v: what was cut looks complete", got, err)
				}
			}
			if end := <-s.ended; end.Err == nil || end.Kept || end.Ending.String() != name {
				t.Errorf("ended as %+v", end)
			}
			if on == idem.AmbiguousHold {
				a := s.do(http.MethodPost, "/chat", "k", "tell me")
				s.isProblem(a, 409, "outcome-unknown")
				return
			}
			go func() { opened <- s.open() }()
			s.say <- "data: again\n\n"
			s.say <- sayEnd
			(<-opened).endsWith("data: again\n\n")
			s.executions("k", 2)
		})
	}
}

// A client that leaves does not end it: its retry joins.
func TestStreamGoesOnWithoutItsClient(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream)
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	s.say <- "id: 1\n\n"
	first := <-opened
	first.hears("id: 1\n\n")
	first.cancel()
	s.say <- "id: 2\n\n"
	again := s.open("Last-Event-ID: 1")
	again.hears("id: 2\n\n")
	again.cancel()
	s.say <- "id: 3\n\n"
	s.say <- sayEnd
	if end := <-s.ended; end.Ending != idem.Stored || end.Joined != 1 {
		t.Errorf("ended as %+v", end)
	}
	s.open("Last-Event-ID: 2").endsWith("id: 3\n\n")
	s.executions("k", 1)
	s.holdsNothing()
}

// Nobody reads it, and it does not end: that is bounded.
func TestStreamIsDeserted(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream, func(c *proxy.Config) { c.ReadOn = 0 })
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	s.say <- "id: 1\n\n"
	first := <-opened
	first.hears("id: 1\n\n")
	first.cancel()
	if end := <-s.ended; end.Err == nil || end.Kept || !strings.Contains(end.Err.Error(), "read_on") || end.Ending != idem.Released {
		t.Errorf("ended as %+v", end)
	}
	s.say <- sayCut // to nobody
}

// Above the size that is kept the stream goes on, for who is there.
func TestStreamTooLargeToKeep(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream, func(c *proxy.Config) { c.MaxResponseBody = 10_000 })
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	s.say <- strings.Repeat("a", 9000)
	first := <-opened
	second := s.open()
	second.hears(strings.Repeat("a", 9000))
	s.say <- strings.Repeat("b", 9000)
	first.hears(strings.Repeat("a", 9000) + strings.Repeat("b", 9000))
	second.hears(strings.Repeat("b", 9000))
	s.isProblem(s.do(http.MethodPost, "/chat", "k", "tell me"), 409, "in-progress")
	s.say <- sayEnd
	first.endsWith("")
	second.endsWith("")
	if end := <-s.ended; end.Ending != idem.Stored || end.Kept || end.Bytes != 18_000 {
		t.Errorf("ended as %+v", end)
	}
	s.isProblem(s.do(http.MethodPost, "/chat", "k", "tell me"), 409, "response-not-kept")
	s.executions("k", 1)
	s.holdsNothing()
}

// staleStore says of every second request that its key is in progress, as it may have been a
// moment ago.
type staleStore struct {
	*storetest.Memory

	claims atomic.Int32
}

func (s *staleStore) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if s.claims.Add(1) == 1 {
		return s.Memory.Acquire(ctx, c)
	}
	return idem.Outcome{Kind: idem.VerdictInProgress, Attempt: 1, Remaining: time.Hour}, nil
}

// A key may be taken by somebody else between what the store said and the look for a
// stream: another's stream is nobody's to join.
func TestJoinComparesByItself(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream, func(c *proxy.Config) {
		c.MaxWait = 10 * time.Millisecond
		c.Engine = idem.NewEngine(idem.Config{Store: &staleStore{Memory: storetest.NewMemory()}})
	})
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	s.say <- "data: secret\n\n"
	first := <-opened
	s.isProblem(s.do(http.MethodPost, "/chat", "k", "tell me", "Authorization: Bearer bob"), 409, "in-progress")
	s.isProblem(s.do(http.MethodPost, "/chat", "k", "tell me more"), 409, "in-progress")
	s.open().hears("data: secret\n\n")
	s.say <- sayEnd
	first.endsWith("data: secret\n\n")
}

// Where there is nothing to join yet a request waits for it.
func TestJoinBeforeTheResponse(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream)
	opened := make(chan *streamClient, 2)
	go func() { opened <- s.open() }()
	<-s.arrived
	go func() { opened <- s.open() }()
	if <-s.waiting != 1 {
		t.Fatal("nobody waits")
	}
	s.say <- "data: a\n\n"
	one, other := <-opened, <-opened
	s.say <- sayEnd
	one.endsWith("data: a\n\n")
	other.endsWith("data: a\n\n")
	s.executions("k", 1)
	s.outcome(proxy.Joined, 1)
}

// Without the route's leave, the second request is told to come again.
func TestStreamNotJoined(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream, func(c *proxy.Config) { c.Join = false })
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	s.say <- "data: a\n\n"
	first := <-opened
	s.isProblem(s.do(http.MethodPost, "/chat", "k", "tell me"), 409, "in-progress")
	s.isProblem(s.do(http.MethodPost, "/chat", "k", "tell me something else"), 422, "key-reused")
	s.say <- sayEnd
	first.endsWith("data: a\n\n")
}

// The store dies while it streams: the client gets its answer, and the store the response
// when it is back.
func TestStreamWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream)
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	s.say <- "data: a\n\n"
	first := <-opened
	s.store.refuses.Store(true)
	s.say <- sayEnd
	first.endsWith("data: a\n\n")
	if end := <-s.ended; end.Ending != idem.Deferred {
		t.Errorf("ended as %+v", end)
	}
	s.store.refuses.Store(false)
	if a := s.do(http.MethodPost, "/chat", "k", "tell me"); a.StatusCode != 200 || a.body != "data: a\n\n" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	s.executions("k", 1)
}

// A shutdown waits for a stream, with its client or without.
func TestShutdownWaitsForStreams(t *testing.T) {
	t.Parallel()
	for _, stays := range []bool{true, false} {
		t.Run(fmt.Sprint(stays), func(t *testing.T) {
			t.Parallel()
			s := newStreamRig(t, eventStream)
			opened := make(chan *streamClient)
			go func() { opened <- s.open() }()
			s.say <- "data: a\n\n"
			first := <-opened
			first.hears("data: a\n\n")
			if !stays {
				first.cancel()
			}
			down := make(chan error, 1)
			go func() { down <- s.server.Shutdown(context.Background()) }()
			s.say <- "data: b\n\n"
			select {
			case err := <-down:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			s.say <- sayEnd
			if end := <-s.ended; end.Ending != idem.Stored || end.Bytes != 18 {
				t.Errorf("ended as %+v", end)
			}
			if stays {
				first.endsWith("data: b\n\n")
			}
			if err := <-down; err != nil || s.server.UnderWay() != 0 {
				t.Errorf("%v, %d under way", err, s.server.UnderWay())
			}
		})
	}
}

// Many clients of one stream get the same bytes, and share them: what one more costs does
// not depend on how long the stream is.
func TestManyJoinOneStream(t *testing.T) {
	many, size := 300, 256<<10
	if n, err := strconv.Atoi(os.Getenv("JOINERS")); err == nil { // see make torture
		many, size = n, 1<<20-1
	}
	say := make(chan string)
	ended := make(chan proxy.StreamReport, 1)
	backendLn, ln := fasthttputil.NewInmemoryListener(), fasthttputil.NewInmemoryListener()
	r := &rig{t: t, backend: backendtest.Serve(t, backendLn, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\n" + eventStream + "\r\n\r\n")
		for said := range say {
			c.Raw(fmt.Sprintf("%x\r\n%s\r\n", len(said), said))
		}
		c.Raw("0\r\n\r\n")
	})}
	r.start(ln, &http.Transport{DisableKeepAlives: true}, proxy.Config{
		Upstream: upstream.Config{Backends: []string{"http://backend:80"}},
		Dial:     func(context.Context, string, string) (net.Conn, error) { return backendLn.Dial() },
	}, []func(*proxy.Config){func(c *proxy.Config) {
		c.Stream, c.Join, c.MaxWait = true, true, time.Minute
		c.MaxInFlight, c.MaxBuffered = 2*many, 64<<20
		c.Trace.Streamed = func(r *proxy.StreamReport) { ended <- *r }
	}})
	heard, sums := make(chan struct{}, many), make(chan [sha256.Size]byte, many)
	for range many {
		go func() {
			conn, err := ln.Dial()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx")
			br := bufio.NewReaderSize(conn, 1<<10)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Error(err)
				return
			}
			sum := sha256.New()
			_, err = io.CopyN(sum, resp.Body, 1)
			heard <- struct{}{}
			n, cut := io.CopyN(sum, resp.Body, int64(size))
			heard <- struct{}{}
			more, failed := io.Copy(sum, resp.Body)
			if err = errors.Join(err, cut, failed); err != nil || more != 0 {
				t.Errorf("%d bytes, and %d more, %v", n, more, err)
			}
			sums <- [sha256.Size]byte(sum.Sum(nil))
		}()
	}
	say <- "a"
	for range many {
		<-heard
	}
	before := heapNow()
	for left := size; left > 0; {
		n := min(left, 8<<10)
		say <- strings.Repeat("b", n)
		left -= n
	}
	for range many { // else what is on its way to them is counted, which is the transport's
		<-heard
	}
	during := heapNow()
	close(say)
	want := sha256.Sum256([]byte("a" + strings.Repeat("b", size)))
	for range many {
		if <-sums != want {
			t.Fatal("other bytes")
		}
	}
	if end := <-ended; end.Joined != many-1 || end.Ending != idem.Stored {
		t.Errorf("ended as %+v", end)
	}
	r.executions("k", 1)
	t.Logf("figure: %d clients: %d KiB more for a stream of %d KiB", many, (during-before)>>10, size>>10)
	if grown := during - before; grown > int64(many)*(64<<10)+8*int64(size) {
		t.Errorf("%d bytes more in memory for %d clients of a stream of %d", grown, many, size)
	}
}

// heapNow is what is in use.
func heapNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a trace is told of who asked for a stream is about that request, though another one
// has come since.
func TestStreamsOutliveTheirRequests(t *testing.T) {
	t.Parallel()
	for name, large := range map[string]bool{"recorded": false, "too large": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := make(chan any, 1)
			let := make(chan struct{})
			r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
				if q.URL.Path == "/other" {
					backendtest.OK(c, q)
					return
				}
				c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n")
				<-let
				c.Reset()
			}, func(c *proxy.Config) {
				c.Policy.OnAmbiguous = idem.AmbiguousHold
				if c.Stream = !large; large {
					c.MaxResponseBody = 10
				}
				c.Engine = idem.NewEngine(idem.Config{
					Store: storetest.NewMemory(), Trace: idem.Trace{Held: func(_ idem.Key, asked any) { held <- asked }},
				})
			})
			s := &streamRig{rig: r}
			first := s.open()
			first.hears("0123456789abcdef")
			for i := range 20 {
				r.do(http.MethodPut, "/other", fmt.Sprint("other-", i), "x")
			}
			close(let)
			if asked, ok := (<-held).(proxy.Asked); !ok || asked.Path != "/chat" || asked.Method != http.MethodPost {
				t.Errorf("held for %+v", asked)
			}
		})
	}
}

// What has come as a whole is answered as a whole, and a status that says that nothing was
// done, or that nobody knows, is not passed on before its end.
func TestNotEverythingIsAStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/whole":
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: 1\r\n\r\n")
		case "/cut":
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno chunk\r\n")
			c.Reset()
		case "/parts":
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
			time.Sleep(10 * time.Millisecond) // its work
			c.Raw("3\r\ndef\r\n0\r\n\r\n")
		case "/again":
			c.Raw("HTTP/1.1 503 Later\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
			c.Reset()
		}
	}, func(c *proxy.Config) { c.Stream = true })
	for range 2 {
		if a := r.do(http.MethodPost, "/whole", "whole", "x"); a.body != "abcdefg" || a.ContentLength != 7 {
			t.Errorf("%d %q of %d bytes", a.StatusCode, a.body, a.ContentLength)
		}
	}
	old := r.exchange("POST /parts HTTP/1.0\r\nHost: x\r\nIdempotency-Key: old\r\nContent-Length: 1\r\n\r\nx")
	if !strings.Contains(old, "Content-Length: 6\r\n") || !strings.HasSuffix(old, "\r\n\r\nabcdef") {
		t.Errorf("an HTTP/1.0 client got %q", old)
	}
	r.isProblem(r.do(http.MethodPost, "/cut", "cut", "x"), 502, "backend-cut")
	r.isProblem(r.do(http.MethodPost, "/again", "again", "x"), 502, "backend-cut")
}
