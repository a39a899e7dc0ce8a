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

// asker asks a URL of the backend's what became of a key.
type asker struct {
	url     string
	timeout time.Duration
	client  *fasthttp.HostClient
}

func newAsker(rawURL string, timeout time.Duration, most int) (*asker, error) {
	u, err := redact.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	b, err := upstream.ParseBackend(u.Scheme + "://" + u.Host)
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("%q cannot be asked: want a URL without user and password, which are not sent", redact.URL(rawURL))
	case u.Fragment != "":
		return nil, fmt.Errorf("%q cannot be asked: want a URL without a fragment (#), which is not sent", redact.URL(rawURL))
	case u.Host == "", err != nil:
		return nil, fmt.Errorf("%q cannot be asked: want a URL such as http://host:port/path", redact.URL(rawURL))
	}
	return &asker{
		url: rawURL, timeout: timeout,
		client: &fasthttp.HostClient{
			Addr: b.Addr, Dial: b.Dialer(timeout), MaxResponseBodySize: most,
			DisableHeaderNamesNormalizing: true, NoDefaultUserAgentHeader: true,
			ReadTimeout: timeout, WriteTimeout: timeout, ReadBufferSize: 64 << 10,
			MaxIdemponentCallAttempts: 1,
		},
	}, nil
}

// Reach connects to the URL's host, TLS included, and says why that fails. Nothing is asked.
func (a *asker) Reach() error {
	conn, err := a.client.Dial(a.client.Addr)
	if err != nil {
		return fmt.Errorf("%s: %w", redact.URL(a.url), redact.Error(err, a.url))
	}
	_ = conn.Close()
	return nil
}

// ask makes one exchange, within its timeout and ctx. What read keeps of the response
// it copies.
//
// The client knows deadlines, and no context. So the exchange has a goroutine of its own,
// which one that was given up keeps until the deadline at the latest: nobody waits for it.
func (a *asker) ask(ctx context.Context, fill func(*fasthttp.Request), read func(*fasthttp.Response) error) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	release := func() {
		fasthttp.ReleaseRequest(req)
		fasthttp.ReleaseResponse(resp)
	}
	req.SetRequestURI(a.url)
	fill(req)
	deadline := time.Now().Add(a.timeout)
	if first, bounded := ctx.Deadline(); bounded && first.Before(deadline) {
		deadline = first
	}
	ended := make(chan error, 1)
	go func() { ended <- a.client.DoDeadline(req, resp, deadline) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		go func() {
			<-ended //nolint:errcheck // nobody waits for its answer any more
			release()
		}()
		return fmt.Errorf("asking the backend what became of the key: %w", ctx.Err())
	}
	defer release()
	if err != nil {
		return fmt.Errorf("asking the backend what became of the key: %w", redact.Error(err, a.url))
	}
	return read(resp)
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
