package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// ledger is a backend's database, as docs/receipts.md wants it: effects, and a row for
// each attempt, which was executed or voided.
type ledger struct {
	mu      sync.Mutex
	rows    map[string]string // by attempt: the response, or "" if it was voided
	done    map[string]string // by operation
	effects map[string]int    // by operation
	away    atomic.Bool       // its endpoint answers 503
	asked   atomic.Int64
	voids   atomic.Int64
}

func newLedger() *ledger {
	return &ledger{rows: map[string]string{}, done: map[string]string{}, effects: map[string]int{}}
}

func operationOf(h http.Header) string {
	return h.Get("Idempotency-Scope") + "|" + h.Get("Idempotency-Key")
}

// execute is a transaction: false if the attempt was voided.
func (l *ledger) execute(h http.Header) (response string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	op, attempt := operationOf(h), h.Get("Idempotency-Attempt-Token")
	if response, ok = l.done[op]; ok {
		return response, true
	}
	if _, ok = l.rows[attempt]; ok {
		return "", false
	}
	l.effects[op]++
	response = fmt.Sprintf("%s charged %d", op, l.effects[op])
	l.rows[attempt], l.done[op] = response, response
	return response, true
}

// void is the endpoint.
func (l *ledger) void(w http.ResponseWriter, r *http.Request) {
	l.asked.Add(1)
	if l.away.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	attempt := r.Header.Get("Idempotency-Attempt-Token")
	if r.Method != http.MethodPut || len(attempt) != 32 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	response := l.done[operationOf(r.Header)]
	if response == "" {
		response = l.rows[attempt]
	}
	if response == "" {
		l.rows[attempt] = ""
		l.voids.Add(1)
		w.Header().Set("Idempotency-Outcome", "voided")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Idempotency-Outcome", "executed")
	w.Header().Set("Idempotency-Status", "201")
	w.Header().Set("X-Receipt", "1")
	w.Header().Set("Set-Cookie", "secret=1")
	_, _ = w.Write([]byte(response))
}

// untilClosed says nothing until the proxy has given the connection up.
func untilClosed(c backendtest.Conn) { _, _ = c.Read(make([]byte, 1)) }

func (l *ledger) effectsOfK() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.effects["|k"]
}

// answer executes and answers.
func (l *ledger) answer(c backendtest.Conn, q *backendtest.Request) {
	if response, ok := l.execute(q.Header); ok {
		c.Answer(201, response, "Idempotency-Outcome: executed")
		return
	}
	c.Answer(409, "voided", "Idempotency-Outcome: voided")
}

// settling has a rig settle by the ledger.
func (l *ledger) settling(t *testing.T, within time.Duration) func(*proxy.Config) {
	t.Helper()
	endpoint := httptest.NewServer(http.HandlerFunc(l.void))
	t.Cleanup(endpoint.Close)
	return func(c *proxy.Config) {
		receipts, err := proxy.NewHTTPReceipts(endpoint.URL+"/receipts", "", within, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous = receipts, within, idem.AmbiguousSettle
	}
}

// What a backend does to the first request with a key, what the client then gets, and
// what a retry gets. The operation has one effect at the end, whatever happens.
func TestSettle(t *testing.T) {
	t.Parallel()
	executed := func(l *ledger, end func(backendtest.Conn)) func(backendtest.Conn, *backendtest.Request) {
		return func(c backendtest.Conn, q *backendtest.Request) {
			if q.Number > 1 {
				l.answer(c, q)
				return
			}
			l.execute(q.Header)
			end(c)
		}
	}
	lost := func(l *ledger, end func(backendtest.Conn)) func(backendtest.Conn, *backendtest.Request) {
		return func(c backendtest.Conn, q *backendtest.Request) {
			if q.Number > 1 {
				l.answer(c, q)
				return
			}
			end(c)
		}
	}
	ends := map[string]func(backendtest.Conn){
		"cut":               func(c backendtest.Conn) { _ = c.Close() },
		"reset":             backendtest.Conn.Reset,
		"cut in the header": func(c backendtest.Conn) { c.Raw("HTTP/1.1 200 OK\r\nContent-"); _ = c.Close() },
		"cut in the body":   func(c backendtest.Conn) { c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"); _ = c.Close() },
		"cut in a chunk": func(c backendtest.Conn) {
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc")
			_ = c.Close()
		},
		"nonsense":         func(c backendtest.Conn) { c.Raw("SSH-2.0-x\r\n"); _ = c.Close() },
		"502 of a gateway": func(c backendtest.Conn) { c.Answer(502, "bad gateway") },
		"504, chunked": func(c backendtest.Conn) {
			c.Raw("HTTP/1.1 504 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
		},
		"unsure": func(c backendtest.Conn) { c.Answer(503, "?", "Idempotency-Outcome: unknown") },
		"executed and voided": func(c backendtest.Conn) {
			c.Answer(200, "", "Idempotency-Outcome: executed", "Idempotency-Outcome: voided")
		},
		"executed, unsure, in one line": func(c backendtest.Conn) { c.Answer(503, "?", "Idempotency-Outcome: executed , unknown") },
		"silence":                       untilClosed,
		"voided by others":              func(c backendtest.Conn) { c.Answer(409, "voided", "Idempotency-Outcome: voided") },
		"a refusal with a 200":          func(c backendtest.Conn) { c.Answer(200, "", "idempotency-outcome: voided") },
	}
	for name, end := range ends {
		for _, was := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/executed=%v", name, was), func(t *testing.T) {
				t.Parallel()
				l := newLedger()
				respond := lost(l, end)
				if was {
					respond = executed(l, end)
				}
				r := newRig(t, respond, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.BackendTimeout = 150 * time.Millisecond })
				a := r.post("k", "x")
				if was {
					if a.StatusCode != 201 || a.body != "|k charged 1" || a.Header.Get("X-Receipt") != "1" || a.Header.Get("Idempotent-Replayed") != "" {
						t.Errorf("the first: %d %q %v", a.StatusCode, a.body, a.Header)
					}
				} else {
					status := 502
					if name == "silence" {
						status = 504
					}
					r.isProblem(a, status, "attempt-voided")
				}
				again := r.post("k", "x")
				if again.StatusCode != 201 || again.body != "|k charged 1" || (again.Header.Get("Idempotent-Replayed") == "true") != was {
					t.Errorf("the retry: %d %q %v", again.StatusCode, again.body, again.Header)
				}
				for _, one := range []answer{a, again} {
					if one.Header.Get("Idempotency-Outcome")+one.Header.Get("Idempotency-Status")+one.Header.Get("Set-Cookie") != "" && was {
						t.Errorf("what is not the client's: %v", one.Header)
					}
				}
				if n := l.effectsOfK(); n != 1 {
					t.Errorf("%d effects", n)
				}
			})
		}
	}
}

// A request whose attempt was voided is forwarded again within the same request, as
// another attempt, as often as the route has it.
func TestSettleAndForwardAgain(t *testing.T) {
	t.Parallel()
	for attempts, status := range map[int]int{1: 502, 2: 201, 3: 201} {
		t.Run(fmt.Sprint(attempts), func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			var mu sync.Mutex
			tokens, numbers := map[string]bool{}, ""
			r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
				mu.Lock()
				tokens[q.Header.Get("Idempotency-Attempt-Token")] = true
				numbers += q.Header.Get("Idempotency-Attempt")
				mu.Unlock()
				if string(q.Payload) != "the payload" {
					t.Errorf("the backend got %q", q.Payload)
				}
				if q.Number <= 2 {
					_ = c.Close()
					return
				}
				l.answer(c, q)
			}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.SettleAttempts = attempts })
			if a := r.post("k", "the payload"); a.StatusCode != status {
				t.Errorf("%d %q", a.StatusCode, a.body)
			}
			mu.Lock()
			defer mu.Unlock()
			if want := min(attempts+1, 3); len(tokens) != want || numbers != "123"[:want] {
				t.Errorf("%d tokens, the attempts %s, want %d", len(tokens), numbers, want)
			}
		})
	}
}

// The endpoint is away: the key is held, a retry is told so, and once the endpoint is
// back the key is settled without anybody's doing.
func TestSettleInTheBackground(t *testing.T) {
	t.Parallel()
	for _, was := range []bool{true, false} {
		t.Run(fmt.Sprint(was), func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			l.away.Store(true)
			r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
				if was {
					l.execute(q.Header)
				}
				_ = c.Close()
			}, l.settling(t, 100*time.Millisecond))
			r.isProblem(r.post("k", "x"), 502, "outcome-pending")
			r.isProblem(r.post("k", "x"), 409, "outcome-pending")
			if n := r.server.Settling().Unsettled; n != 1 {
				t.Errorf("%d are unsettled", n)
			}
			l.away.Store(false)
			r.until("it is settled", func() bool {
				record, err := r.store.Get(t.Context(), mustKey("k"))
				if was {
					return err == nil && record.State == idem.Completed && string(record.Response.Body) == "|k charged 1"
				}
				return err != nil
			})
			r.until("nothing is left", func() bool { return r.server.Settling().Unsettled == 0 })
			if was != (l.voids.Load() == 0) {
				t.Errorf("%d voids", l.voids.Load())
			}
		})
	}
}

// What a process that died left in doubt is found, and settled.
func TestSettleWhatOthersLeft(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRig(t, backendtest.OK, l.settling(t, 10*time.Second), func(c *proxy.Config) {
		c.SettleEvery, c.Policy.TTL, c.Policy.Heartbeat = 20*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
	})
	recipe := recipeOf(r.server)
	for key, was := range map[string]bool{"done": true, "lost": false} {
		owner := idem.NewOwner()
		_, err := r.store.Acquire(t.Context(), idem.Claim{
			Key: mustKey(key), Owner: owner, Recipe: recipe, TTL: 10 * time.Millisecond, Retention: time.Minute, HoldOnLapse: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if was {
			l.execute(http.Header{"Idempotency-Key": {key}, "Idempotency-Attempt-Token": {fmt.Sprintf("%x", owner[:])}})
		}
	}
	r.until("they are settled", func() bool {
		done, err := r.store.Get(t.Context(), mustKey("done"))
		_, gone := r.store.Get(t.Context(), mustKey("lost"))
		return err == nil && done.State == idem.Completed && gone != nil
	})
	if l.voids.Load() != 1 {
		t.Errorf("%d voids", l.voids.Load())
	}
}

// A claimant that meets what another left in doubt voids that attempt before it starts
// its own; the late request of that attempt then has no effect.
func TestSettleBeforeAnotherAttempt(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRig(t, l.answer, l.settling(t, 10*time.Second))
	owner, key := idem.NewOwner(), mustKey("k")
	claim := idem.Claim{Key: key, Owner: owner, TTL: time.Millisecond, Retention: time.Minute, HoldOnLapse: true}
	claim.Recipe = recipeOf(r.server)
	sent := r.do("POST", "/pay", "other", "x") // to have the same hashes
	record, err := r.store.Get(t.Context(), mustKey("other"))
	if err != nil || sent.StatusCode != 201 {
		t.Fatal(sent.StatusCode, err)
	}
	claim.Fingerprint, claim.Binding = record.Fingerprint, record.Binding
	if _, err := r.store.Acquire(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	r.until("its lease has lapsed", func() bool {
		record, err := r.store.Get(t.Context(), key)
		return err == nil && record.State == idem.Unknown
	})
	if a := r.do("POST", "/pay", "k", "x"); a.StatusCode != 201 || a.body != "|k charged 1" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	late := http.Header{"Idempotency-Key": {"k"}, "Idempotency-Attempt-Token": {fmt.Sprintf("%x", owner[:])}}
	if response, ok := l.execute(late); !ok || response != "|k charged 1" || l.effectsOfK() != 1 || l.voids.Load() != 1 {
		t.Errorf("the late one: %q, %v, %d effects, %d voids", response, ok, l.effectsOfK(), l.voids.Load())
	}
}

// Of two that settle the same attempt, the second changes nothing that stands by then.
func TestSettleComesSecond(t *testing.T) {
	t.Parallel()
	l := newLedger()
	var r *rig
	var once sync.Once
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		once.Do(func() { // another proxy has settled it, and runs another attempt, which is in doubt, too
			record, err := r.store.Get(context.Background(), mustKey("k"))
			if err != nil {
				t.Error(err)
				return
			}
			claim := idem.Claim{
				Key: mustKey("k"), Owner: idem.NewOwner(), TTL: time.Millisecond, Retention: time.Minute, HoldOnLapse: true,
				Fingerprint: record.Fingerprint, Binding: record.Binding, Recipe: record.Recipe,
			}
			if err := r.store.Release(context.Background(), idem.Lease{Key: mustKey("k"), Owner: record.Owner}); err != nil {
				t.Error(err)
			}
			if _, err := r.store.Acquire(context.Background(), claim); err != nil {
				t.Error(err)
			}
		})
		l.void(w, q)
	}))
	t.Cleanup(endpoint.Close)
	r = newRig(t, l.answer, l.settling(t, 10*time.Second), func(c *proxy.Config) {
		receipts, err := proxy.NewHTTPReceipts(endpoint.URL, "", 10*time.Second, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipts = receipts
	})
	first := idem.NewOwner()
	r.do("POST", "/pay", "other", "x")
	record, err := r.store.Get(t.Context(), mustKey("other"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.store.Acquire(t.Context(), idem.Claim{
		Key: mustKey("k"), Owner: first, TTL: time.Millisecond, Retention: time.Minute, HoldOnLapse: true,
		Fingerprint: record.Fingerprint, Binding: record.Binding, Recipe: record.Recipe,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.until("its lease has lapsed", func() bool {
		record, err := r.store.Get(t.Context(), mustKey("k"))
		return err == nil && record.State == idem.Unknown
	})
	for range 3 { // the first may find the other attempt in doubt, or still under way
		r.do("POST", "/pay", "k", "x")
	}
	r.until("it is executed", func() bool { return r.do("POST", "/pay", "k", "x").StatusCode == 201 })
	if n := l.voids.Load(); n != 2 || l.effectsOfK() != 1 {
		t.Errorf("%d voids, want one for each attempt; %d effects", n, l.effectsOfK())
	}
}

// A stream too large to keep that breaks off is settled behind its client's back.
func TestSettleALargeResponse(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		l.execute(q.Header)
		c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + strings.Repeat("x", 1024) + "\r\n")
		_ = c.Close()
	}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.MaxResponseBody = 100 })
	if _, err := r.try("POST", "/pay", "k", "x"); err == nil {
		t.Error("the client was not told")
	}
	r.until("it is settled", func() bool {
		record, err := r.store.Get(t.Context(), mustKey("k"))
		return err == nil && record.State == idem.Completed && string(record.Response.Body) == "|k charged 1"
	})
}

// An answer of the endpoint that does not say what became of the attempt is none.
func TestAnswersThatDoNotSettle(t *testing.T) {
	t.Parallel()
	for name, endpoint := range map[string]http.HandlerFunc{
		"200":          func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) },
		"204":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"404":          http.NotFound,
		"another word": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Idempotency-Outcome", "void") },
		"two words": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Idempotency-Outcome"] = []string{"executed", "unknown"}
		},
		"two words in a line": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Outcome", "voided, executed")
		},
		"voided in 500": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Outcome", "voided")
			w.WriteHeader(500)
		},
		"executed, 404": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Outcome", "executed")
			w.WriteHeader(404)
		},
		"a bad status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Outcome", "executed")
			w.Header().Set("Idempotency-Status", "99")
		},
		"two statuses": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Outcome", "executed")
			w.Header()["Idempotency-Status"] = []string{"201", "404"}
		},
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"larger than ok": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Outcome", "executed")
			_, _ = w.Write(make([]byte, 2000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(endpoint)
			t.Cleanup(server.Close)
			r := newRig(t, cutFirst, func(c *proxy.Config) {
				receipts, err := proxy.NewHTTPReceipts(server.URL, "", 50*time.Millisecond, 1000)
				if err != nil {
					t.Fatal(err)
				}
				c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous = receipts, 50*time.Millisecond, idem.AmbiguousSettle
			})
			r.isProblem(r.post("k", "x"), 502, "outcome-pending")
			r.isProblem(r.post("k", "x"), 409, "outcome-pending")
			r.executions("k", 1)
		})
	}
}

// The backend is told which attempt at which operation it sees, by nobody but the proxy.
func TestAttemptsAreNamed(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 4)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		seen <- q.Header
		c.Answer(503, "again") // so that a retry is another attempt
	}, scopedByAccount)
	forged := []string{
		"X-Account: 7", "Idempotency-Attempt-Token: forged", "Idempotency-Scope: forged", "Idempotency-Attempt: 9",
		"Idempotency_Scope: forged", "Idempotency_Attempt_Token: forged",
	}
	r.post("k", "x", forged...)
	r.post("k", "x", forged...)
	first, second := <-seen, <-seen
	token := first.Get("Idempotency-Attempt-Token")
	if len(token) != 32 || second.Get("Idempotency-Attempt-Token") == token || first.Get("Idempotency-Scope") != "header:x-account=7" ||
		second.Get("Idempotency-Attempt") != "2" {
		t.Errorf("%v, and then %v", first, second)
	}
	r.post("", "x", forged...)
	for _, h := range []http.Header{first, second, <-seen} {
		for name, values := range h {
			if strings.Contains(strings.Join(values, " "), "forged") {
				t.Errorf("the backend got %s: %q", name, values)
			}
		}
	}
}

func recipeOf(s *proxy.Server) idem.Recipe {
	for recipe := range s.RecipeTexts() {
		return recipe
	}
	return 0
}

func scopedByAccount(c *proxy.Config) { c.Scope, _ = caller.ParseScope([]string{"header:X-Account"}) }

// A path that keeps no receipts must not be on such a route: what it answers is told.
func TestMissingReceiptsAreTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method  string
		respond func(backendtest.Conn)
		told    bool
	}{
		"none":          {"POST", func(c backendtest.Conn) { c.Answer(200, "ok") }, true},
		"another word":  {"POST", func(c backendtest.Conn) { c.Answer(200, "ok", "Idempotency-Outcome: yes") }, true},
		"one":           {"POST", func(c backendtest.Conn) { c.Answer(200, "ok", "Idempotency-Outcome: executed") }, false},
		"a refusal":     {"POST", func(c backendtest.Conn) { c.Answer(400, "no") }, false},
		"a safe method": {"GET", func(c backendtest.Conn) { c.Answer(200, "ok") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan bool, 1)
			r := newRig(t, func(conn backendtest.Conn, _ *backendtest.Request) { c.respond(conn) }, newLedger().settling(t, time.Second),
				func(c *proxy.Config) { c.Trace.Done = func(r *proxy.Report) { told <- r.NoReceipt } })
			r.do(c.method, "/pay", "k", "")
			if got := <-told; got != c.told {
				t.Errorf("told: %v", got)
			}
		})
	}
}

// A receipt's response that is larger than what is kept goes to the client, and ends its
// key. One that is just as large is kept.
func TestLargeReceipt(t *testing.T) {
	t.Parallel()
	const response = "|k charged 1"
	for _, most := range []int{len(response) - 1, len(response)} {
		l := newLedger()
		r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			l.execute(q.Header)
			_ = c.Close()
		}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.MaxResponseBody = most })
		if a := r.post("k", "x"); a.StatusCode != 201 || a.body != response {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
		again := r.post("k", "x")
		if most < len(response) {
			r.isProblem(again, 409, "response-not-kept")
		} else if again.StatusCode != 201 || again.body != response || again.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("replayed: %d %q %v", again.StatusCode, again.body, again.Header)
		}
	}
}

// An attempt that has several names is one attempt: the backend knows one token of it, by
// which it is settled under each name.
func TestSettleUnderEachName(t *testing.T) {
	t.Parallel()
	l := newLedger()
	l.away.Store(true)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		l.execute(q.Header)
		_ = c.Close()
	}, l.settling(t, 100*time.Millisecond), scopedByAccount, func(c *proxy.Config) {
		c.EarlierScopes, _ = caller.ParseEarlierScopes([]string{"none"})
	})
	r.isProblem(r.post("k", "x", "X-Account: 7"), 502, "outcome-pending")
	l.away.Store(false)
	for _, key := range []idem.Key{mustKey("k"), mustKey("k").InScope("header:x-account=7")} {
		r.until("it is settled under "+key.Scope(), func() bool {
			record, err := r.store.Get(t.Context(), key)
			return err == nil && record.State == idem.Completed && strings.HasSuffix(string(record.Response.Body), "charged 1")
		})
	}
	if n := l.voids.Load(); n != 0 {
		t.Errorf("%d voids of what was executed", n)
	}
}
