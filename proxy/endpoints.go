package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// endpoints keeps how the endpoints for receipts answer, so that operators are told
// when one stops, and see why, though no request waits for it.
type endpoints struct {
	mu  sync.Mutex
	all map[string]*endpoint // by URL; guarded by mu
}

// endpoint is one of them.
type endpoint struct {
	asking chan struct{} // as many as may ask at a time in the background

	state EndpointStatus  // guarded by endpoints.mu
	told  map[string]bool // guarded by endpoints.mu: kinds of errors since it last answered
}

// mostTold bounds the kinds of errors of an endpoint that operators are told of until it
// answers again.
const mostTold = 8

// EndpointStatus is how an endpoint for receipts answers.
type EndpointStatus struct {
	URL string // without what may be secret
	// Failures is how many questions in a row have not been answered. 0: the last one
	// was, or none was asked.
	Failures int
	// Err is why the last one of those that failed did, FailedAt when.
	Err                  error
	FailedAt, AnsweredAt time.Time // zero: never
}

func (e *endpoints) of(url string) *endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	one := e.all[url]
	if one == nil {
		one = &endpoint{asking: make(chan struct{}, asksAtOnce), state: EndpointStatus{URL: redact.URL(url)}}
		if e.all == nil {
			e.all = map[string]*endpoint{}
		}
		e.all[url] = one
	}
	return one
}

// note keeps what became of one question. It returns how the endpoint did before, and whether
// this is news: an answer after errors, or the first error of its kind after an answer. A
// question that was cut short by who asked is no news after others.
func (e *endpoints) note(one *endpoint, err error, cut bool) (before EndpointStatus, news bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before = one.state
	if err == nil {
		one.state.Failures, one.state.AnsweredAt = 0, time.Now()
		one.told = nil
		return before, before.Failures > 0
	}
	one.state.Failures++
	one.state.Err, one.state.FailedAt = err, time.Now()
	if cut && before.Failures > 0 {
		return before, false
	}
	return before, one.tells(err)
}

// tells says whether an error is the first of its kind. It is called with endpoints.mu held.
func (e *endpoint) tells(err error) bool {
	kind := kindOf(err)
	if e.told[kind] || len(e.told) >= mostTold {
		return false
	}
	if e.told == nil {
		e.told = map[string]bool{}
	}
	e.told[kind] = true
	return true
}

// kindOf is what an error has in common with others of the same cause: most of its text. A
// connection has a port of its own in it, and a time that is up has many texts.
func kindOf(err error) string {
	var of *net.OpError
	switch {
	case isLate(err):
		return "time is up"
	case errors.As(err, &of):
		return of.Op + ": " + of.Err.Error()
	}
	return err.Error()
}

// isLate says of an error that time was up.
func isLate(err error) bool {
	var late interface{ Timeout() bool }
	return errors.As(err, &late) && late.Timeout()
}

// void asks the endpoint of rules, and notes how it answered.
func (s *Server) void(ctx context.Context, rules *Rules, key idem.Key, attempt idem.Owner) (*idem.Response, error) {
	if err := failpoint.Fail("receipt-asked"); err != nil {
		return nil, err
	}
	response, err := rules.Receipts.Void(ctx, key, attempt)
	if lost := failpoint.Fail("receipt-answered"); lost != nil {
		return nil, lost
	}
	if errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, errScopeField) {
		return response, err // that says nothing of the endpoint
	}
	one := s.endpoints.of(rules.Receipts.URL())
	_, bounded := ctx.Deadline()
	before, news := s.endpoints.note(one, err, bounded && isLate(err))
	if f := s.config.Trace.Asked; f != nil {
		f(&before, err, news)
	}
	return response, err
}

// voidWithin asks until there is an answer or the route's patience ends. To ask again is
// safe, whatever became of the question before.
func (s *Server) voidWithin(ctx context.Context, rules *Rules, key idem.Key, attempt idem.Owner) (*idem.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, rules.SettleWithin)
	defer cancel()
	for rest := voidRestFirst; ; rest = min(2*rest, voidRestMost) {
		response, err := s.void(ctx, rules, key, attempt)
		if err == nil {
			return response, nil
		}
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// between two tries of voiding an attempt.
const voidRestFirst, voidRestMost = 50 * time.Millisecond, 2 * time.Second

// SettlingStatus is how the settling of what is in doubt goes.
type SettlingStatus struct {
	// Unsettled is how many attempts this process asks about now, in the background;
	// Since is when the first of them came to be in doubt here, zero if there is none.
	Unsettled int
	Since     time.Time
	// Endpoints are those of the routes that settle; none if no route does.
	Endpoints []EndpointStatus
}

// Settling tells how it goes.
func (s *Server) Settling() SettlingStatus {
	var out SettlingStatus
	out.Unsettled, out.Since = s.settler.open.summary()
	seen := map[string]bool{}
	for _, rules := range s.live.Load().routes.all() {
		if !rules.settles() || seen[rules.Receipts.URL()] {
			continue
		}
		seen[rules.Receipts.URL()] = true
		one := s.endpoints.of(rules.Receipts.URL())
		s.endpoints.mu.Lock()
		out.Endpoints = append(out.Endpoints, one.state)
		s.endpoints.mu.Unlock()
	}
	return out
}

// Doubt is what this process knows of an attempt in doubt that it asks about.
type Doubt struct {
	Since time.Time
	// Asked is how often it was asked about in the background, Err what came of it the
	// last time.
	Asked int
	Err   error
}

// Doubt says so of a record's attempt; false if this process does not ask about it.
func (s *Server) Doubt(r *idem.Record) (Doubt, bool) {
	return s.settler.open.of(doubtful{r.Key, r.Owner})
}
