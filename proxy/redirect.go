package proxy

import (
	"bytes"
	"context"
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// redirect is where a response leads that is to be kept; nil if it is none of the
// redirects under which a request is made again with its key (see
// operation.Place), or leads nowhere that a request could come from.
func (q *request) redirect(resp *fasthttp.Response) *idem.Redirect {
	if s := resp.StatusCode(); s != fasthttp.StatusTemporaryRedirect && s != fasthttp.StatusPermanentRedirect || q.derived {
		return nil
	}
	to := q.asked.Leads(message.ResponseValue(&resp.Header, "Location"))
	if to == nil {
		return nil
	}
	return &idem.Redirect{From: q.asked.Place(), To: to}
}

// followed says whether the request follows redirects from what stands, and if so
// where each of them leads, up to the request's own target; nil if not.
func (s *Server) followed(q *request, was *standing) (path []operation.Place, err error) {
	var record idem.Record
	switch {
	case was.Kind == idem.VerdictCompleted && was.Response.Redirect != nil:
		// The fingerprint has no target in it, or none that tells the two apart. Who
		// is where the redirect came from gets it again.
		if bytes.Equal(was.Response.Redirect.From, q.asked.Place()) {
			return nil, nil
		}
	case was.Kind != idem.VerdictMismatch || !was.Part.Has(idem.PartPayload):
		return nil, nil
	}
	here := q.asked.Place()
	for key := was.key; len(path) < operation.MaxHops; key = operation.Continuation(key, record.Response.Redirect.To) {
		record, err = s.engine.Get(context.Background(), key)
		switch {
		case errors.Is(err, idem.ErrNotFound), errors.Is(err, idem.ErrNoOperator):
			return nil, nil
		case err != nil:
			return nil, err
		case record.State != idem.Completed || record.Response == nil || record.Response.Redirect == nil:
			return nil, nil
		}
		redirect := record.Response.Redirect
		if same, err := q.sameButForTarget(&record, redirect.From); err != nil || !same {
			return nil, err
		}
		path = append(path, redirect.To)
		if operation.IsWhere(redirect, here) {
			return path, nil
		}
	}
	return nil, nil
}

// sameButForTarget says whether the request would be the record's, if it went to
// from. If nobody can tell, that is idem.ErrRecipe.
func (q *request) sameButForTarget(record *idem.Record, from operation.Place) (bool, error) {
	moved, ok := q.asked.At(from)
	if !ok {
		return false, nil
	}
	var by idem.Hashes
	if !q.know(record.Recipe, func() (ok bool) {
		by, ok = q.hashesOf(&moved, record.Recipe)
		return ok
	}) {
		return false, idem.ErrRecipe
	}
	return by.Fingerprint == record.Fingerprint && by.Binding == record.Binding, nil
}
