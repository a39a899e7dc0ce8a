package proxy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/valyala/bytebufferpool"

	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// finder finds keys on routes that have them elsewhere than in KeyHeaders, or for some
// methods only. All others have none, so that they cost nothing more.
type finder struct {
	sources *operation.Sources // nil: KeyHeaders
	headers []string
	methods []string // nil: all
}

func newFinder(r *Rules) *finder {
	if r.Key == nil && r.KeyMethods == nil {
		return nil
	}
	sources := r.Key
	if sources != nil && r.LenientKey {
		sources = sources.Lenient()
	}
	return &finder{sources: sources, headers: r.KeyHeaders, methods: r.KeyMethods}
}

// placeKey finds the segments of a route's path that Key names.
func (r *Rules) placeKey(path string) error {
	placed, err := r.Key.ForPath(path)
	if err != nil {
		return fmt.Errorf("where the key is: %w", err)
	}
	r.Key = placed
	return nil
}

// counts says whether keys count for the request's method, or for another one that it asks
// the backend to go by.
func (f *finder) counts(head *message.Head) bool {
	if f == nil || f.methods == nil || slices.Contains(f.methods, string(head.Method())) {
		return true
	}
	for _, method := range head.Overrides() {
		if slices.ContainsFunc(f.methods, func(one string) bool { return message.EqualFold(method, one) }) {
			return true
		}
	}
	return false
}

// keyFields are the fields that keys may be in.
func (r *Rules) keyFields() []string {
	if r.Key != nil {
		return r.Key.Headers()
	}
	return r.KeyHeaders
}

// find looks for the request's key; read says that its body has been.
func (q *request) find(read bool) (err error) {
	f := q.rules.finder
	switch {
	case !f.counts(&q.head):
		return nil
	case f.sources == nil:
		q.key, q.keyed, err = operation.FindKey(&q.head, f.headers)
		return err
	}
	found, err := f.sources.Find(&q.asked, read)
	q.holdUndone()
	q.key, q.keyed, q.sought = found.Key, found.Keyed, found.More
	if q.sought {
		q.who.Identify(q.rules.recipe.Bind) // who asks counts before its body is read
	}
	return err
}

// found is the rest of identify for a request whose body has been read since.
func (q *request) found() error {
	q.sought = false
	if err := q.find(true); err != nil {
		return err
	}
	return q.identified()
}

// seek reads the body of a request whose key may be in it, finds out, and goes on. What
// is larger than a body with a key may be is refused, since nobody can tell then.
func (s *Server) seek(q *request) {
	body := bytebufferpool.Get()
	defer q.doneWith(body)
	if p, err := s.readBody(q, body, q.rules.MaxRequestBody); p != nil {
		s.fail(q, p, err)
		return
	}
	err := q.found()
	if q.isObserved() {
		q.letPass(err)
		err = nil
	}
	if err != nil {
		s.refuse(q, keyProblem(err), err)
		return
	}
	q.report.Keyed, q.report.Key = q.keyed, q.key
	leave, refusal := s.crowdedKey(q)
	switch {
	case refusal != nil:
		s.fail(q, refusal, nil)
		return
	case leave != nil:
		before := q.leave
		q.leave = func() {
			leave()
			if before != nil {
				before()
			}
		}
	}
	s.proceed(q)
}

// seekObserved finds the key of a request that is only observed, whose body is read if
// it is a small one. One that is passed on as it comes tells nothing.
func (q *request) seekObserved() {
	o := &q.observed
	if q.ctx.RequestBodyStream() != nil {
		return
	}
	err := q.found()
	o.keyed, o.derived, o.sought, o.refused = q.keyed, q.derived, false, err
	q.keyed, q.derived, q.async, q.wait = false, false, false, 0
	q.head.NoKeys()
}

// sourceProblem is the answer to an error of operation.Sources.
func sourceProblem(err error) *problem {
	switch {
	case errors.Is(err, operation.ErrExpands):
		return &problemBodyTooLarge
	case errors.Is(err, operation.ErrUnreadable):
		return &problemKeyUnreadable
	case errors.Is(err, operation.ErrBatch):
		return &problemKeyBatch
	}
	return nil
}
