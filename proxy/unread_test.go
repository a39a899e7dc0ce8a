package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// sealed is a store whose records cannot be read.
type sealed struct {
	*storetest.Memory
	why error
}

func (s *sealed) Acquire(context.Context, idem.Claim) (idem.Outcome, error) {
	return idem.Outcome{}, fmt.Errorf("reading a record: %w", s.why)
}

func (*sealed) Seal(_ idem.Key, r *idem.Response) (*idem.Response, error) { return r, nil }

func (*sealed) Open(idem.Key, *idem.Response) (*idem.Response, error) {
	return nil, errors.New("so it was planned")
}

// What is stored of a key and cannot be read is no outage: the same key meets it again, so that a
// client is not told to retry, and nothing is executed, with fail_open neither.
func TestRecordsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	_, noCodec := idem.OpenResponse(nil, idem.Key{}, &idem.Response{Sealed: true})
	_, otherKey := idem.OpenResponse(&sealed{}, idem.Key{}, &idem.Response{Sealed: true})
	for name, c := range map[string]struct {
		why  error
		want string
		open bool
	}{
		"no codec":        {noCodec, "record-unreadable", true},
		"another key":     {otherKey, "record-unreadable", true},
		"damaged":         {idem.ErrCorrupt, "record-unreadable", true},
		"of a later":      {idem.ErrVersion, "store-unavailable", true}, // another proxy may read it
		"the store fails": {idem.ErrUnavailable, "store-unavailable", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &sealed{storetest.NewMemory(), c.why}
			r := newRig(t, backendtest.OK, func(config *proxy.Config) {
				config.Engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store.Memory, store)})
				config.FailOpen, config.FailStatus = c.open, 503
			})
			a := r.post("k", "x")
			r.isProblem(a, 503, c.want)
			if retry := c.want == "store-unavailable"; strings.Contains(a.body, `"retryable":true`) != retry || (a.Header.Get("Retry-After") != "") != retry {
				t.Errorf("the client is told %v %s", a.Header, a.body)
			}
			r.executions("k", 0)
		})
	}
}
