package proxy_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// timedStore takes its time, on a bubble's clock.
type timedStore struct {
	*storetest.Memory

	claim, end time.Duration
}

func (s *timedStore) use(t *testing.T) func(*proxy.Config) {
	t.Helper()
	return func(c *proxy.Config) {
		s.Memory = storetest.NewMemory()
		c.Engine.Close(context.Background()) // whose goroutine would outlive the bubble
		c.Engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, s.Memory, s)})
	}
}

func (s *timedStore) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	time.Sleep(s.claim)
	return s.Memory.Acquire(ctx, c)
}

func (s *timedStore) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	time.Sleep(s.end)
	return s.Memory.Complete(ctx, l, r)
}

func (s *timedStore) Release(ctx context.Context, l idem.Lease) error {
	time.Sleep(s.end)
	return s.Memory.Release(ctx, l)
}

func reporting(reports chan<- proxy.Report) func(*proxy.Config) {
	return func(c *proxy.Config) { c.Trace.Done = func(r *proxy.Report) { reports <- *r } }
}

// Where the time of a request goes is told to the second: to the backend, to the store before and
// after that, or to waiting for another one. Nothing of it is counted twice, or not at all.
func TestWhereTheTimeGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reports := make(chan proxy.Report, 8)
		store := &timedStore{claim: 2 * time.Second, end: 3 * time.Second}
		r := bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			time.Sleep(20 * time.Second)
			if q.Header.Get("Idempotency-Key") == "cut" {
				_ = c.Close()
				return
			}
			c.Answer(201, "made")
		}, store.use(t), reporting(reports), func(c *proxy.Config) {
			c.Wait, c.MaxWait = true, time.Minute
			c.Policy.OnAmbiguous = idem.AmbiguousRelease
		})
		first := make(chan answer, 1)
		go func() { first <- r.post("k", "x") }()
		time.Sleep(10 * time.Second)
		waiter := r.post("k", "x")
		if a := <-first; a.StatusCode != 201 || waiter.StatusCode != 201 {
			t.Errorf("%d, and the waiter got %d", a.StatusCode, waiter.StatusCode)
		}
		got := <-reports
		if got.Outcome != proxy.Executed || got.Attempt != 1 || got.Store != 5*time.Second || got.Backend != 20*time.Second ||
			got.Waited != 0 || got.Duration != 25*time.Second {
			t.Errorf("executed: %v, attempt %d, store %v, backend %v, waited %v, in all %v",
				got.Outcome, got.Attempt, got.Store, got.Backend, got.Waited, got.Duration)
		}
		got = <-reports
		if got.Store != 2*time.Second || got.Backend != 0 || got.Waited < 13*time.Second || got.Duration != got.Store+got.Waited {
			t.Errorf("waited: store %v, backend %v, waited %v, in all %v", got.Store, got.Backend, got.Waited, got.Duration)
		}
		r.isProblem(r.post("cut", "x"), 502, "backend-cut")
		if got = <-reports; got.Store != 5*time.Second || got.Backend != 20*time.Second || got.Duration != 25*time.Second {
			t.Errorf("cut: store %v, backend %v, in all %v", got.Store, got.Backend, got.Duration)
		}
	})
}

// What the end of a stream costs the store, after its request has been reported, is told of no
// other request.
func TestTheEndOfAStreamIsNoOtherRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reports := make(chan proxy.Report, 8)
		store := &timedStore{claim: time.Second, end: 3 * time.Second}
		r := bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			if q.Header.Get("Idempotency-Key") == "streamed" {
				c.Raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\n\n\r\n")
				time.Sleep(10 * time.Second)
				c.Raw("0\r\n\r\n")
				return
			}
			c.Answer(201, "made")
		}, store.use(t), reporting(reports), func(c *proxy.Config) { c.Stream = true })
		if a := r.post("streamed", "x"); a.body != "a\n\n" {
			t.Errorf("the stream is %q", a.body)
		}
		if got := <-reports; got.Store != time.Second {
			t.Errorf("the stream's request: store %v", got.Store)
		}
		for _, key := range []string{"a", "b", "c", "d"} {
			r.post(key, "x")
			if got := <-reports; got.Store != 4*time.Second {
				t.Errorf("another request: store %v", got.Store)
			}
		}
	})
}

// The error that is told of a request is of its last attempt: what was voided before, and done
// again, is settled.
func TestTheErrorIsOfTheLastAttempt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		second func(*ledger, backendtest.Conn, *backendtest.Request)
		status int
		fails  bool
	}{
		"which succeeds": {func(l *ledger, c backendtest.Conn, q *backendtest.Request) { l.answer(c, q) }, 201, false},
		"which is cut":   {func(_ *ledger, c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() }, 502, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, reports := newLedger(), make(chan proxy.Report, 1)
			r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
				if q.Number == 1 {
					conn.Answer(http.StatusServiceUnavailable, "", "Idempotency-Outcome: voided")
					return
				}
				c.second(l, conn, q)
			}, l.settling(t, 10*time.Second), reporting(reports), func(c *proxy.Config) { c.SettleAttempts = 1 })
			a := r.post("k", "x")
			got := <-reports
			if a.StatusCode != c.status || got.Status != c.status || got.Attempt != 2 {
				t.Errorf("%d, told as %d of attempt %d", a.StatusCode, got.Status, got.Attempt)
			}
			if (got.Err != nil) != c.fails || got.Err != nil && strings.Contains(got.Err.Error(), "503") {
				t.Errorf("told: %v", got.Err)
			}
		})
	}
}

// What is wrong with a backend's wishes is told, and what is not is not.
func TestIgnoredWishesAreTold(t *testing.T) {
	t.Parallel()
	for policy, ignored := range map[string]bool{
		"": false, "no-store": false, "retention=60": false, "something-else, x=(1 2)": false, "retention=31536000": false,
		"!": true, "no-store=?0": true, "no-store=1": true, "no-store=(1)": true, "retention": true, "retention=0": true, "retention=-1": true,
		"retention=(60)": true, "retention=1.5": true, "retention=31536001": true,
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			reports := make(chan proxy.Report, 1)
			r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
				c.Answer(200, "ok", "Idempotency-Policy: "+policy)
			}, reporting(reports))
			if a := r.post("k", "x"); a.StatusCode != 200 || a.body != "ok" {
				t.Errorf("%d %q", a.StatusCode, a.body)
			}
			got := <-reports
			if (got.Err != nil) != ignored || ignored && !strings.Contains(got.Err.Error(), "Idempotency-Policy") {
				t.Errorf("told: %v", got.Err)
			}
		})
	}
}

// A response is kept for as short, or as long, as a backend may wish.
func TestShortestAndLongestWish(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]time.Duration{
		"retention=1": time.Second, "retention=31536000": 8760 * time.Hour, "retention=31536001": 24 * time.Hour,
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := bubbleRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
					c.Answer(200, "ok", "Idempotency-Policy: "+policy)
				})
				r.post("k", "x")
				record, err := r.store.Get(t.Context(), mustKey("k"))
				if err != nil {
					t.Fatal(err)
				}
				if got := time.Duration(record.ReplayUntil-record.Updated) * time.Millisecond; got != want {
					t.Errorf("kept for %v, want %v", got, want)
				}
			})
		})
	}
}

// Whatever is under way counts, once: what is executed, who waits for that, and what has no key.
func TestUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			if q.URL.Path == "/stream" {
				c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			}
			time.Sleep(20 * time.Second)
			if q.URL.Path == "/stream" {
				c.Raw("0\r\n\r\n")
				return
			}
			c.Answer(201, "made")
		}, func(c *proxy.Config) { c.Wait, c.MaxWait = true, time.Minute })
		answers := make(chan answer, 4)
		for i, ask := range []struct{ path, key string }{{"/pay", "k"}, {"/pay", "k"}, {"/", ""}, {"/stream", ""}} {
			if n := r.server.UnderWay(); n != i {
				t.Errorf("%d are under way, want %d", n, i)
			}
			go func() { answers <- r.do(http.MethodPost, ask.path, ask.key, "x") }()
			time.Sleep(time.Second)
		}
		if n := r.server.UnderWay(); n != 4 {
			t.Errorf("%d are under way, want 4", n)
		}
		for range 4 {
			<-answers
		}
		synctest.Wait()
		if n := r.server.UnderWay(); n != 0 {
			t.Errorf("%d are under way at the end", n)
		}
	})
}

// A shutdown that has no more time says how many requests are not answered, and why it gave up:
// also where their clients have been told to ask later, and nobody is connected.
func TestAShutdownThatHasNoMoreTime(t *testing.T) {
	t.Parallel()
	for name, prefer := range map[string]string{"with its client": "Prefer: wait=0", "in the background": preferAsync} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan struct{}, 1)
				r := bubbleRig(t, slow, func(c *proxy.Config) {
					c.RespondAsync, c.MaxWait = true, time.Minute
					c.Trace.Ended = func(*proxy.Report) { ended <- struct{}{} }
				})
				go func() {
					if a := r.post("k", "x", prefer); a.StatusCode == 201 {
						ended <- struct{}{}
					}
				}()
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				err := r.server.Shutdown(ctx)
				var cut *proxy.CutError
				if !errors.As(err, &cut) || cut.Requests != 1 || !errors.Is(err, context.DeadlineExceeded) ||
					!strings.HasPrefix(err.Error(), "1 requests") {
					t.Errorf("%v", err)
				}
				<-ended // what is under way is not broken off
				r.executions("k", 1)
			})
		})
	}
}
