package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/singleflight"

	"github.com/idemproxy/idemproxy/idem"
)

// Config is what a server needs. Engine and Backend are required.
type Config struct {
	// Rules are for requests that no route matches.
	Rules
	// Routes have rules of their own; the most specific one that matches counts.
	Routes []Route
	// Engine takes keyed requests through the store.
	Engine *idem.Engine
	// Backend is the origin that requests are forwarded to: http://host:port or
	// https://host:port.
	Backend string
	// BackendTimeout bounds an exchange with the backend, from sending to the
	// end of the response. 0: no bound.
	BackendTimeout time.Duration
	// ConnectTimeout bounds connecting, TLS included. Default 5 s.
	ConnectTimeout time.Duration
	// MaxConns bounds the connections to the backend. Default 4096.
	MaxConns int
	// MaxInFlight bounds the requests under way, those aside that wait for a key
	// in progress; further ones get 503. Default twice MaxConns.
	MaxInFlight int
	// MaxBuffered bounds the bytes of requests and responses with a key that are
	// in memory; while there are more, new requests get 503. Default 256 MiB.
	MaxBuffered int64
	// TrustForwarded leaves the client's X-Forwarded-Proto and -Host as they
	// are: for a proxy behind another one that sets them.
	TrustForwarded bool
	// IdleTimeout closes a client's connection that sends nothing. Default 2
	// minutes.
	IdleTimeout time.Duration
	// HeaderTimeout bounds how long a request's header may take to arrive, from
	// its first byte. Default 10 s.
	HeaderTimeout time.Duration
	// BodyTimeout bounds how long a request's body may take. Default 1 h.
	BodyTimeout time.Duration
	// MaxHeader is the largest request header, in bytes. Every client connection,
	// idle ones too, holds a buffer of that size. Default 16 KiB.
	MaxHeader int
	// Secret, if set, is what fingerprints and identities are hashed with
	// (HMAC), so that who reads the store cannot try out guesses of what they
	// were made from. Another secret makes other fingerprints: retries across the
	// change get 422.
	Secret []byte
	// Trace is told what happens.
	Trace Trace
	// Dial replaces how the backend is connected to (tests).
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Server is the HTTP side. Make it with New.
type Server struct {
	config    Config
	routes    *routes
	secret    *secret
	engine    *idem.Engine
	resolving singleflight.Group
	upstream  *upstream
	admission admission
	http      *fasthttp.Server
}

// New makes a server; it starts with Serve.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	up, err := newUpstream(&c)
	if err != nil {
		return nil, err
	}
	r, err := newRoutes(&c)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, routes: r, engine: c.Engine, upstream: up, secret: newSecret(c.Secret)}
	s.admission.maxRequests, s.admission.maxBytes = int64(c.MaxInFlight), c.MaxBuffered
	s.http = &fasthttp.Server{
		Handler:                       s.handle,
		ErrorHandler:                  s.handleError,
		ReadBufferSize:                c.MaxHeader,
		WriteBufferSize:               2 << 10, // larger bodies are written past it
		IdleTimeout:                   c.IdleTimeout,
		ReadTimeout:                   c.HeaderTimeout,
		HeaderReceived:                bodyDeadline(c.BodyTimeout),
		MaxRequestBodySize:            1 << 62, // of streams; keyed bodies have a limit of their own
		StreamRequestBody:             true,
		CloseOnShutdown:               true,
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		NoDefaultContentType:          true,
		SecureErrorLogMessage:         true,
		Logger:                        silent{},
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.MaxConns <= 0 {
		c.MaxConns = 4096
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 2 * c.MaxConns
	}
	if c.MaxBuffered <= 0 {
		c.MaxBuffered = 256 << 20
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 2 * time.Minute
	}
	if c.HeaderTimeout <= 0 {
		c.HeaderTimeout = 10 * time.Second
	}
	if c.BodyTimeout <= 0 {
		c.BodyTimeout = time.Hour
	}
	if c.MaxHeader <= 0 {
		c.MaxHeader = 16 << 10
	}
	return c
}

// ParseBackend reads a backend's origin and returns its host:port.
func ParseBackend(origin string) (addr string, isTLS bool, err error) {
	u, err := url.Parse(origin)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("backend %q: %w", origin, err)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", false, fmt.Errorf("backend %q: want http://host:port or https://host:port", origin)
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/":
		return "", false, fmt.Errorf("backend %q: want an origin (scheme, host and port) and nothing else", origin)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), u.Scheme == "https", nil
}

func newUpstream(c *Config) (*upstream, error) {
	addr, isTLS, err := ParseBackend(c.Backend)
	if err != nil {
		return nil, err
	}
	var tlsConfig *tls.Config
	if isTLS {
		host, _, _ := net.SplitHostPort(addr)
		tlsConfig = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return &upstream{
		timeout: c.BackendTimeout,
		client: &fasthttp.HostClient{
			Addr:               addr,
			Dial:               dialer(c.ConnectTimeout, tlsConfig, c.Dial),
			MaxConns:           c.MaxConns,
			MaxConnWaitTimeout: c.ConnectTimeout,
			ConnPoolStrategy:   fasthttp.LIFO,
			ReadBufferSize:     16 << 10,
			// This package sends without the client's own Do, which would
			// repeat GET, HEAD and PUT; should it ever be called, it does not.
			MaxIdemponentCallAttempts: 1,
			RetryIfErr:                func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		},
	}, nil
}

// bodyDeadline gives a body its own time, counted from the end of the header. A
// body that surely came along with its header is not worth setting a timer for.
func bodyDeadline(timeout time.Duration) func(*fasthttp.RequestHeader) fasthttp.RequestConfig {
	return func(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
		if n := h.ContentLength(); n == -1 || n > small {
			c.ReadTimeout = timeout
		}
		return c
	}
}

// small is what fits into a packet with its header.
const small = 1 << 10

// Serve answers on ln until Shutdown. It may be called for several listeners.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); err != nil {
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting, closes idle connections and waits until every
// request under way has been answered, or ctx ends. Who waits for a key in
// progress gets a 409 now.
func (s *Server) Shutdown(ctx context.Context) error {
	s.engine.StopWaiting()
	err := s.http.ShutdownWithContext(ctx)
	s.upstream.client.CloseIdleConnections()
	if err != nil {
		return fmt.Errorf("requests are still under way: %w", err)
	}
	return nil
}

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	st := states.Get().(*state) //nolint:forcetypeassert // see New
	id, r := &st.id, &st.request
	invalid := sound(&ctx.Request.Header)
	r.Method, r.Path = ctx.Method(), pathOf(ctx)
	switch {
	case invalid != nil:
		s.refuse(ctx, framingProblem(invalid), invalid, r)
	case !s.admission.enter():
		s.fail(ctx, &problemOverloaded, nil, r, nil)
	default:
		s.route(ctx, id, r)
		s.admission.leave(id.buffered)
	}
	if s.config.Trace.Done != nil {
		r.Duration = time.Since(start)
		r.Remote = ctx.RemoteAddr()
		id.correlate(r)
		s.config.Trace.Done(r)
	}
	*st = state{}
	states.Put(st)
}

// route takes a well-formed request the way that its route and its key have it.
func (s *Server) route(ctx *fasthttp.RequestCtx, id *identity, r *Request) {
	id.rules, r.Route = s.routes.find(ctx, r)
	switch err := id.identify(&ctx.Request.Header); {
	case ctx.Request.Header.IsConnect():
		s.fail(ctx, &problemMethod, nil, r, nil)
	case err != nil:
		s.refuse(ctx, keyProblem(err), err, r)
	case id.keyed, id.derived:
		id.bindCertificate(ctx)
		r.Keyed, r.Key = true, id.key
		s.keyed(ctx, id, r)
	default:
		s.passThrough(ctx, id, r)
	}
}

// state is what is known of one request; it ends with the handler.
type state struct {
	id      identity
	request Request
}

//nolint:gochecknoglobals // a pool is made to be shared
var states = sync.Pool{New: func() any { return new(state) }}

// fail answers with a problem.
func (s *Server) fail(ctx *fasthttp.RequestCtx, p *problem, key *idem.Key, r *Request, err error) {
	r.Outcome, r.Status, r.Err = p.outcome, p.status, err
	writeProblem(ctx, p, key, "")
}

// refuse answers with a problem and its reason, of our own wording.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, p *problem, reason error, r *Request) {
	r.Outcome, r.Status, r.Err = p.outcome, p.status, reason
	writeProblem(ctx, p, nil, reason.Error())
}

// handleError answers what fasthttp could not read as a request.
func (s *Server) handleError(ctx *fasthttp.RequestCtx, err error) {
	p := problemRequestInvalid
	var small *fasthttp.ErrSmallBuffer
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF): // after the header, or nobody would listen
		p = problemBodyBroken
	case errors.As(err, &small):
		p.status = fasthttp.StatusRequestHeaderFieldsTooLarge
		p.detail = "The request's header is larger than this proxy takes (max_header)."
	case errors.As(err, &timeout) && timeout.Timeout():
		p.status, p.retryable = fasthttp.StatusRequestTimeout, true
		p.detail = "The request did not arrive in time; nothing was forwarded."
	}
	writeProblem(ctx, &p, nil, "")
	if s.config.Trace.Done != nil {
		s.config.Trace.Done(&Request{
			Outcome: Refused, Status: p.status, Err: err, Remote: ctx.RemoteAddr(),
		})
	}
}

// pathOf is the target without its query.
func pathOf(ctx *fasthttp.RequestCtx) []byte {
	path, _, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte{'?'})
	return path
}

// silent: what fasthttp would log is traced.
type silent struct{}

func (silent) Printf(string, ...any) {}
