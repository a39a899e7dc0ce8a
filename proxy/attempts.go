package proxy

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/operation"
)

// attempts are the leases of one execution: under the key's name, and under each
// name that it had by earlier settings, so that proxies that still run with those
// exclude this execution, and replay it. They end as one.
type attempts struct {
	first   *idem.Attempt // nil: there is nothing to execute under
	earlier []*idem.Attempt
	recipe  idem.Recipe // by which the record of the first was made
	// payload holds the execution's payload, so that it is noticed under another key:
	// see Rules.DuplicateWindow. Nil where nobody looks.
	payload *idem.Attempt
	// spent is where the time goes that the store takes; nil: nobody wants to know.
	spent *time.Duration
}

// spends adds the time since begun to what the store has taken.
func (a *attempts) spends(begun time.Time) {
	if a.spent != nil {
		*a.spent += time.Since(begun)
	}
}

// standing is what was there before the request, and under which name.
type standing struct {
	idem.Outcome
	key idem.Key
}

func (a *attempts) add(one *idem.Attempt) {
	if a.first == nil {
		a.first = one
		return
	}
	a.earlier = append(a.earlier, one)
}

// named is the key of the operation: of a redirected one it is another than the
// client's.
func (a *attempts) named(client idem.Key) idem.Key {
	if a == nil {
		return client
	}
	return a.key()
}

// key is the name that counts.
func (a *attempts) key() idem.Key { return a.first.Key() }

// number counts the executions, from 1: the highest of all names, so that it
// does not go back when the names change.
func (a *attempts) number() uint32 {
	n := a.first.Number()
	for _, one := range a.earlier {
		n = max(n, one.Number())
	}
	return n
}

// retain is idem.Attempt's, for all.
func (a *attempts) retain(d time.Duration) {
	a.first.Retain(d)
	for _, one := range a.earlier {
		one.Retain(d)
	}
}

// retention is how long the response is kept.
func (a *attempts) retention() time.Duration { return a.first.Retention() }

// outlive is idem.Attempt's, for all.
func (a *attempts) outlive() {
	a.spent = nil // the report is the request's
	a.first.Outlive()
	for _, one := range a.earlier {
		one.Outlive()
	}
	if a.payload != nil {
		a.payload.Outlive()
	}
}

// doNotStore is idem.Attempt's, for all.
func (a *attempts) doNotStore() {
	a.first.DoNotStore()
	for _, one := range a.earlier {
		one.DoNotStore()
	}
}

// confirm is idem.Attempt's: all must be confirmed.
func (a *attempts) confirm(ctx context.Context) error {
	defer a.spends(time.Now())
	for _, one := range a.earlier {
		if err := one.Confirm(ctx); err != nil {
			return err
		}
	}
	return a.first.Confirm(ctx)
}

// finish is idem.Attempt's. The earlier names come first: if this process dies in
// between, a retry finds the first name free and then what stands under the
// earlier one, whatever settings its proxy has. The other way about, one with the
// earlier settings would execute again.
func (a *attempts) finish(sent idem.Sent, r *idem.Response) idem.Ending {
	defer a.spends(time.Now())
	a.finishEarlier(sent, r)
	end := a.first.Finish(sent, r)
	failpoint.Reach("ending-taken")
	a.finishPayload(sent, end)
	return end
}

// finishPayload: a payload is remembered if it may have been executed, and not if
// the key is free again.
func (a *attempts) finishPayload(sent idem.Sent, end idem.Ending) {
	switch {
	case a.payload == nil:
	case sent == idem.NothingSent, end == idem.Released:
		a.payload.Finish(idem.NothingSent, nil)
	default:
		a.payload.Finish(idem.Answered, &idem.Response{Status: fasthttp.StatusNoContent})
	}
}

func (a *attempts) finishEarlier(sent idem.Sent, r *idem.Response) {
	for _, one := range a.earlier {
		one.Finish(sent, r)
	}
}

// begin acquires the key under all its names, or learns what stands under one of
// them. That may be a redirect that this request follows: then the request is an
// operation of its own, under names of its own.
func (s *Server) begin(q *request, ask idem.Request) (standing, attempts, error) {
	was, held, err := s.beginAll(q, ask, q.earlier)
	if err != nil || held.first != nil || q.derived {
		return was, held, err
	}
	path, err := s.followed(q, &was)
	if err != nil || path == nil {
		return was, held, err
	}
	ask.Key = operation.Continued([]idem.Key{ask.Key}, path)[0]
	return s.beginAll(q, ask, operation.Continued(q.earlier, path))
}

// beginAll acquires the key under its name and then its earlier ones. What stands
// under one of them is the answer, and what was acquired before it is given back.
func (s *Server) beginAll(q *request, ask idem.Request, earlier []idem.Key) (was standing, held attempts, err error) {
	held.spent = &q.report.Store
	for i := range 1 + len(earlier) {
		if i > 0 {
			ask.Key, ask.Owner = earlier[i-1], held.first.Owner() // one attempt under all names
		}
		out, attempt, err := s.beginOne(q, ask)
		if err != nil || attempt == nil {
			if held.first != nil {
				held.finish(idem.NothingSent, nil)
			}
			return standing{out, ask.Key}, attempts{}, err
		}
		if held.add(attempt); i == 0 {
			held.recipe = out.Recipe
		}
	}
	q.report.Attempt = held.number()
	return standing{}, held, nil
}

// beginOne acquires one name, or learns what stands: at once, after waiting for
// it, or from the backend's receipts or its resolver, as the route has it.
func (s *Server) beginOne(q *request, ask idem.Request) (idem.Outcome, *idem.Attempt, error) {
	begun := time.Now()
	out, attempt, err := s.engine.Begin(context.Background(), ask)
	q.report.Store += time.Since(begun)
	if err == nil && out.Kind == idem.VerdictInProgress && q.wait > 0 && !s.canJoin(q, ask.Key) {
		out, attempt, err = s.wait(q, ask, out)
	}
	if err == nil && out.Kind == idem.VerdictUnknown && s.isResolved(q, ask.Key) {
		out, attempt, err = s.engine.Begin(context.Background(), ask)
	}
	return out, attempt, err
}

// wait is for a client that would rather have the response than a 409.
func (s *Server) wait(q *request, ask idem.Request, standing idem.Outcome) (idem.Outcome, *idem.Attempt, error) {
	s.admission.pause()
	defer s.admission.resume()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), q.wait)
	defer cancel()
	if q.rules.Join {
		defer s.tapes.await(ask.Key.ID(), q.said, cancel)()
	}
	q.unread = true // whoever asked for all that wait may have been unable to look a recipe up; a retry asks itself
	out, attempt, err := s.engine.Wait(ctx, ask, standing)
	q.report.Waited += time.Since(begun)
	return out, attempt, err
}
