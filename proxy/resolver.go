package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// Resolver is asked what became of a key whose outcome is unknown, before a
// retry with it is refused.
type Resolver interface {
	// Ask returns the response if the operation was executed, and nil if it was
	// not and never will be. An error leaves the key unknown.
	Ask(ctx context.Context, key idem.Key) (*idem.Response, error)
}

// Headers of the conversation with a resolver.
const (
	headerScope  = "Idempotency-Scope"  // asked: the key's scope, if it has one (header:x-account-id=acct_7)
	headerStatus = "Idempotency-Status" // answered: the status of the response, 200 unless said
)

// errScopeField is about a key that no client of this release can have.
var errScopeField = errors.New("the key's scope has characters that no field can have: resolve it by hand")

// errStillUnknown: the resolver does not know either.
var errStillUnknown = errors.New("the resolver does not know")

// HTTPResolver asks a URL: GET with the key in Idempotency-Key, and in the query
// as key=. 200 means executed, and the answer's header and body are the
// response; 404 means not executed, and never to be; anything else that it is
// not known.
type HTTPResolver struct {
	url     string
	timeout time.Duration
	client  *fasthttp.HostClient
}

// NewHTTPResolver checks the URL. Answers of more than most bytes are errors.
func NewHTTPResolver(rawURL string, timeout time.Duration, most int) (*HTTPResolver, error) {
	u, err := redact.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no URL to ask: want http://host:port/path", redact.URL(rawURL))
	}
	b, err := upstream.ParseBackend(u.Scheme + "://" + u.Host)
	if err != nil {
		return nil, err
	}
	return &HTTPResolver{
		url: rawURL, timeout: timeout,
		client: &fasthttp.HostClient{
			Addr: b.Addr, Dial: b.Dialer(timeout), MaxResponseBodySize: most,
			DisableHeaderNamesNormalizing: true, NoDefaultUserAgentHeader: true,
			ReadTimeout: timeout, WriteTimeout: timeout, ReadBufferSize: 16 << 10,
			MaxIdemponentCallAttempts: 1,
		},
	}, nil
}

// Ask implements Resolver.
func (h *HTTPResolver) Ask(_ context.Context, key idem.Key) (*idem.Response, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(h.url)
	req.URI().QueryArgs().Set("key", key.Value())
	req.Header.Set(operation.HeaderKey, key.Value())
	switch scope := caller.AsField(operation.Bare(key.Scope())); {
	case strings.ContainsFunc(scope, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') }):
		return nil, errScopeField
	case scope != "":
		req.Header.Set(headerScope, scope)
	}
	if err := h.client.DoTimeout(req, resp, h.timeout); err != nil {
		return nil, fmt.Errorf("asking the resolver: %w", redact.Error(err, h.url))
	}
	switch resp.StatusCode() {
	case fasthttp.StatusOK:
	case fasthttp.StatusNotFound:
		return nil, nil //nolint:nilnil // not executed: see Resolver
	default:
		return nil, fmt.Errorf("%w: it answered %d", errStillUnknown, resp.StatusCode())
	}
	return resolved(resp)
}

// resolved is a resolver's answer as the response that it stands for.
func resolved(resp *fasthttp.Response) (*idem.Response, error) {
	r := &idem.Response{Status: fasthttp.StatusOK, Body: append([]byte(nil), resp.Body()...)}
	if status := message.ResponseValue(&resp.Header, headerStatus); len(status) > 0 {
		n, err := strconv.Atoi(string(status))
		if err != nil || n < 200 || n > 599 {
			return nil, fmt.Errorf("the resolver's %s is %q: want 200 to 599", headerStatus, status)
		}
		r.Status = n
	}
	if err := message.CleanResponse(resp, false, nil); err != nil {
		return nil, fmt.Errorf("the resolver's answer: %w", err)
	}
	for name, value := range resp.Header.All() {
		if !message.EqualFold(name, "Content-Length") && !message.EqualFold(name, headerStatus) {
			r.Header = append(r.Header, idem.Field{Name: append([]byte(nil), name...), Value: append([]byte(nil), value...)})
		}
	}
	return r, nil
}

// askResolver asks what became of the key, once for all who ask at a time, and
// records it. It returns nil if the key is worth another acquire.
func (s *Server) askResolver(key idem.Key, rules *Rules) error {
	key = key.Clone()
	_, err, _ := s.resolving.Do(key.Scope()+"\x00"+key.Value(), func() (any, error) {
		ctx := context.Background()
		response, err := rules.Resolver.Ask(ctx, key)
		if err != nil {
			return nil, err
		}
		if response != nil {
			response.Header = rules.replayedOnly(response.Header)
		}
		err = s.engine.Resolve(ctx, key, response)
		if errors.Is(err, idem.ErrNotUnknown) { // somebody else was faster
			return nil, nil //nolint:nilnil // nothing to return
		}
		if err == nil && s.config.Trace.Resolved != nil {
			s.config.Trace.Resolved(key, response != nil)
		}
		return nil, err
	})
	return err //nolint:wrapcheck // as above
}

func (r *Rules) replayedOnly(all []idem.Field) (kept []idem.Field) {
	for _, f := range all {
		if !r.notReplayed(f.Name) {
			kept = append(kept, f)
		}
	}
	return kept
}
