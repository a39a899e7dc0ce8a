package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Store is what the suite needs of a store: all faces of it.
type Store interface {
	idem.Store
	idem.Inspector
	idem.Registry
}

// Harness tells the suite how to make and handle one kind of store. What is nil
// is not tested, and Run says so; a store's own test should assert that nothing
// is nil that it claims to have.
type Harness struct {
	// New opens an empty store. The harness closes it when tb ends.
	New func(tb testing.TB) Store
	// Tick is the shortest lease that the store honours reliably here.
	Tick time.Duration
	// Pass lets that much of the store's time go by.
	Pass func(time.Duration)
	// Second opens another client of the same data.
	Second func(tb testing.TB, first Store) Store
	// Reopen closes the store as a crash would and opens its data again.
	Reopen func(tb testing.TB, old Store) Store
	// Sever makes the store unreachable until mend is called.
	Sever func(s Store) (mend func())
	// Claimants is how many goroutines race for one key (1,000 if zero).
	Claimants int
	// Histories is how many random histories are compared with Memory (50 if
	// zero).
	Histories int
}

// Case is one clause of the contract.
type Case struct {
	Name        string
	Promise     string // of package idem's documentation
	Explanation string // the rule that the case guards
	needs       need
	check       func(*env) error
}

type need uint8

const (
	needSecond need = 1 << iota
	needReopen
	needSever
)

// Run checks every clause against stores of h, in parallel.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if missing := h.missing(c.needs); missing != "" {
				t.Skip("the harness has no " + missing)
			}
			if err := c.Check(t, h); err != nil {
				t.Errorf("%s: %s: %v", c.Promise, c.Explanation, err)
			}
		})
	}
}

// Check runs one clause and returns what is wrong, so that the suite itself can
// be tested.
func (c Case) Check(tb testing.TB, h Harness) error {
	tb.Helper()
	return c.check(&env{tb: tb, h: h, ctx: context.Background(), s: h.New(tb)})
}

func (h Harness) missing(n need) string {
	switch {
	case n&needSecond != 0 && h.Second == nil:
		return "Second"
	case n&needReopen != 0 && h.Reopen == nil:
		return "Reopen"
	case n&needSever != 0 && h.Sever == nil:
		return "Sever"
	}
	return ""
}

// env is what a case works with.
type env struct {
	tb   testing.TB
	h    Harness
	ctx  context.Context
	s    Store
	keys atomic.Int64
}

const (
	longTTL   = time.Hour
	retention = 24 * time.Hour
)

// claim is a claim of a fresh owner to a key named name.
func claim(name string) idem.Claim {
	key, err := idem.ParseKey(name)
	if err != nil {
		panic(err) // a literal of this package
	}
	return idem.Claim{
		Key: key, Owner: idem.NewOwner(),
		Fingerprint: idem.Fingerprint{1}, Binding: idem.Binding{2}, Recipe: 3,
		TTL: longTTL, Retention: retention, Remember: retention,
	}
}

// fresh is a claim to a key that no other case of this store has used.
func (e *env) fresh() idem.Claim {
	return claim(fmt.Sprintf("key-%d", e.keys.Add(1)))
}

// rival is another attempt at c's key, with the same payload.
func rival(c idem.Claim) idem.Claim {
	c.Owner = idem.NewOwner()
	return c
}

func response(body string) *idem.Response {
	return &idem.Response{
		Status: 201,
		Header: []idem.Field{{Name: []byte("Content-Type"), Value: []byte("text/plain")}},
		Body:   []byte(body),
	}
}

// acquire expects a verdict.
func (e *env) acquire(c idem.Claim, want idem.Verdict) (idem.Outcome, error) {
	out, err := e.s.Acquire(e.ctx, c)
	if err != nil {
		return out, fmt.Errorf("acquire: %w", err)
	}
	if out.Kind != want {
		return out, fmt.Errorf("acquire answered %v, want %v", out.Kind, want)
	}
	return out, nil
}

// steps runs funcs until one fails.
func steps(fs ...func() error) error {
	for i, f := range fs {
		if err := f(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (e *env) mustAcquire(c idem.Claim, want idem.Verdict) func() error {
	return func() error {
		_, err := e.acquire(c, want)
		return err
	}
}

func (e *env) completes(c idem.Claim, r *idem.Response) func() error {
	return func() error { return e.s.Complete(e.ctx, c.Lease(), r) }
}

func (e *env) releases(c idem.Claim) func() error {
	return func() error { return e.s.Release(e.ctx, c.Lease()) }
}

func (e *env) holds(c idem.Claim) func() error {
	return func() error { return e.s.Hold(e.ctx, c.Lease()) }
}

func (e *env) renews(c idem.Claim) func() error {
	return func() error { return e.s.Renew(e.ctx, []idem.Lease{c.Lease()})[0] }
}

func (e *env) passes(d time.Duration) func() error {
	return func() error {
		e.h.Pass(d)
		return nil
	}
}

// fails expects a sentinel error.
func fails(f func() error, want error) func() error {
	return func() error {
		if err := f(); !errors.Is(err, want) {
			return fmt.Errorf("got %w, want %w", err, want)
		}
		return nil
	}
}

// replays expects the stored response, byte for byte.
func (e *env) replays(c idem.Claim, want *idem.Response) func() error {
	return func() error {
		out, err := e.acquire(c, idem.VerdictCompleted)
		if err != nil {
			return err
		}
		return sameResponse(out.Response, want)
	}
}

func sameResponse(got, want *idem.Response) error {
	if got == nil {
		return errors.New("there is no response")
	}
	if got.Status != want.Status || got.BodyOmitted != want.BodyOmitted {
		return fmt.Errorf("status %d (omitted: %v), want %d (%v)", got.Status, got.BodyOmitted, want.Status, want.BodyOmitted)
	}
	if string(got.Body) != string(want.Body) {
		return fmt.Errorf("body of %d bytes differs from the %d stored", len(got.Body), len(want.Body))
	}
	if got, want := fmt.Sprint(got.Redirect), fmt.Sprint(want.Redirect); got != want {
		return fmt.Errorf("redirect %s, want %s", got, want)
	}
	if len(got.Header) != len(want.Header) {
		return fmt.Errorf("%d header fields, want %d", len(got.Header), len(want.Header))
	}
	for i, f := range got.Header {
		w := want.Header[i]
		if string(f.Name) != string(w.Name) || string(f.Value) != string(w.Value) {
			return fmt.Errorf("field %d is %s: %s, want %s: %s", i, f.Name, f.Value, w.Name, w.Value)
		}
	}
	return nil
}
