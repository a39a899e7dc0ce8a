package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/valyala/bytebufferpool"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/internal/redact"
	"github.com/idemproxy/idemproxy/upstream"
)

// asker asks a URL of the backend's what became of a key. It does so as requests are
// forwarded, by an Upstream: fasthttp's own client would read answers in another way than
// those of a backend, and asks no https:// URL of which it does not do the TLS itself.
type asker struct {
	url     string
	timeout time.Duration
	most    int // bytes of an answer
	to      *upstream.Upstream
	connect func() (net.Conn, error)
}

// asksConns bounds the connections to one endpoint.
const asksConns = 512

// errLongAnswer is an answer that is larger than responses may be.
var errLongAnswer = errors.New("the answer's size is over the limit of responses (max_response_body)")

func newAsker(rawURL string, timeout time.Duration, most int) (*asker, error) {
	u, err := redact.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	origin := u.Scheme + "://" + u.Host
	b, err := upstream.ParseBackend(origin)
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("%q cannot be asked: want a URL without user and password, which are not sent", redact.URL(rawURL))
	case u.Fragment != "":
		return nil, fmt.Errorf("%q cannot be asked: want a URL without a fragment (#), which is not sent", redact.URL(rawURL))
	case u.Host == "", err != nil:
		return nil, fmt.Errorf("%q cannot be asked: want a URL such as http://host:port/path", redact.URL(rawURL))
	}
	a := &asker{url: rawURL, timeout: timeout, most: most}
	a.connect = func() (net.Conn, error) { return b.Dialer(timeout)(b.Addr) }
	return a, a.use(&upstream.Config{Backends: []string{origin}, ConnectTimeout: timeout, MaxConns: asksConns})
}

// use has the URL's host be reached as c says.
func (a *asker) use(c *upstream.Config) error {
	to, err := upstream.New(c, upstream.Network{}, &upstream.Trace{})
	if err != nil {
		return fmt.Errorf("%q cannot be asked: %w", redact.URL(a.url), err)
	}
	a.to = to
	return nil
}

// Reach connects to the URL's host, TLS included, and says why that fails. Nothing is asked.
func (a *asker) Reach() error {
	conn, err := a.connect()
	if err != nil {
		return fmt.Errorf("%s: %w", redact.URL(a.url), redact.Error(err, a.url))
	}
	_ = conn.Close()
	return nil
}

// ask makes one exchange, within its timeout and ctx. What read keeps of the response
// it copies.
//
// To connect knows deadlines, and no context. So the exchange has a goroutine of its own,
// which one that was given up keeps until the deadline at the latest: nobody waits for it.
func (a *asker) ask(ctx context.Context, fill func(*fasthttp.Request), read func(*fasthttp.Response) error) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	req.SetRequestURI(a.url)
	fill(req)
	deadline := time.Now().Add(a.timeout)
	if first, bounded := ctx.Deadline(); bounded && first.Before(deadline) {
		deadline = first
	}
	var leash upstream.Leash
	ended := make(chan error, 1)
	go func() { ended <- a.exchange(req, resp, time.Until(deadline), &leash) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		leash.Pull(0)
		go func() {
			<-ended //nolint:errcheck // nobody waits for its answer any more
			fasthttp.ReleaseResponse(resp)
		}()
		return fmt.Errorf("asking the backend what became of the key: %w", ctx.Err())
	}
	defer fasthttp.ReleaseResponse(resp)
	if err != nil {
		return fmt.Errorf("asking the backend what became of the key: %w", redact.Error(err, a.url))
	}
	return read(resp)
}

// exchange sends req, which it releases, and reads the whole answer.
func (a *asker) exchange(req *fasthttp.Request, resp *fasthttp.Response, within time.Duration, leash *upstream.Leash) error {
	if within <= 0 {
		fasthttp.ReleaseRequest(req)
		return fasthttp.ErrTimeout
	}
	e := a.to.Do(req, resp, upstream.Want{Buffer: a.most, Timeout: within, Leash: leash})
	if e.Err == nil && e.Rest != nil {
		body := bytebufferpool.Get()
		defer bytebufferpool.Put(body)
		if !e.ReadRest(body, a.most) {
			_ = e.Rest.Close()
			return errLongAnswer
		}
		resp.SetBody(body.B)
	}
	if e.Timeout && !isLate(e.Err) {
		return fmt.Errorf("%w: %w", fasthttp.ErrTimeout, e.Err)
	}
	return e.Err
}
