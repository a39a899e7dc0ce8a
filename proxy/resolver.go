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
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// Resolver is asked what became of a key whose outcome is unknown, before a
// retry with it is refused.
type Resolver interface {
	// Ask returns the response if the operation was executed, and nil if it was
	// not and never will be. An error leaves the key unknown.
	Ask(ctx context.Context, key idem.Key) (*idem.Response, error)
}

// headerStatus is answered: the status of the response, 200 unless said.
const headerStatus = "Idempotency-Status"

// errScopeField is about a key that no client of this release can have.
var errScopeField = errors.New("the key's scope has characters that no field can have: resolve it by hand")

// errStillUnknown: the resolver does not know either.
var errStillUnknown = errors.New("the resolver does not know")

// HTTPResolver asks a URL: GET with the key in Idempotency-Key, and in the query
// as key=. 200 means executed, and the answer's header and body are the
// response; 404 means not executed, and never to be; anything else that it is
// not known.
type HTTPResolver struct{ asker }

// NewHTTPResolver checks the URL. Answers of more than most bytes are errors.
func NewHTTPResolver(rawURL string, timeout time.Duration, most int) (*HTTPResolver, error) {
	a, err := newAsker(rawURL, timeout, most)
	if err != nil {
		return nil, err
	}
	return &HTTPResolver{*a}, nil
}

// Ask implements Resolver.
func (h *HTTPResolver) Ask(ctx context.Context, key idem.Key) (response *idem.Response, err error) {
	scope := caller.AsField(operation.Bare(key.Scope()))
	if !isFieldText(scope) {
		return nil, errScopeField
	}
	fill := func(req *fasthttp.Request) {
		req.URI().QueryArgs().Set("key", key.Value())
		req.Header.Set(operation.HeaderKey, key.Value())
		if scope != "" {
			req.Header.Set(message.HeaderScope, scope)
		}
	}
	err = h.ask(ctx, fill, func(resp *fasthttp.Response) error {
		switch resp.StatusCode() {
		case fasthttp.StatusOK:
			response, err = resolved(resp)
			return err
		case fasthttp.StatusNotFound:
			return nil // not executed: see Resolver
		}
		return fmt.Errorf("%w: it answered %d", errStillUnknown, resp.StatusCode())
	})
	return response, err
}

// scopeField is a key's scope as a field has it, empty for none. It names the
// operation: what a redirect led to is another one than what was redirected.
func scopeField(key idem.Key) string {
	scope := key.Scope()
	if scope == "" {
		return ""
	}
	return caller.AsField(operation.ScopeText(scope))
}

func isFieldText(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') })
}

// resolved is a resolver's answer as the response that it stands for.
func resolved(resp *fasthttp.Response) (*idem.Response, error) {
	resp.Header.SetNoDefaultContentType(true) // fasthttp would make one up
	r := &idem.Response{Status: fasthttp.StatusOK, Body: append([]byte(nil), resp.Body()...)}
	if err := saidStatus(&resp.Header, &r.Status); err != nil {
		return nil, err
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

// saidStatus is the status that an answer names; to stays if it names none. Who names several
// has said nothing.
func saidStatus(h *fasthttp.ResponseHeader, to *int) error {
	said := 0
	for name, value := range h.All() {
		if !message.EqualFold(name, headerStatus) || len(value) == 0 {
			continue
		}
		n, err := strconv.Atoi(string(value))
		switch {
		case err != nil || n < 200 || n > 599:
			return fmt.Errorf("the resolver's %s is %q: want 200 to 599", headerStatus, value)
		case said > 0 && n != said:
			return fmt.Errorf("the resolver's %s is %d and %d: want one", headerStatus, said, n)
		}
		*to, said = n, n
	}
	return nil
}

func (r *Rules) replayedOnly(all []idem.Field) (kept []idem.Field) {
	for _, f := range all {
		if !r.notReplayed(f.Name) {
			kept = append(kept, f)
		}
	}
	return kept
}
