package proxy

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/singleflight"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// Config is what a server needs. Engine and Backend are required.
type Config struct {
	// Rules are for requests that no route matches.
	Rules
	// Routes have rules of their own; the most specific one that matches counts.
	Routes []Route
	// Engine takes keyed requests through the store.
	Engine *idem.Engine
	// Upstream is where the requests of Rules go. Required.
	Upstream upstream.Config
	// Upstreams are further ones, for routes that name them.
	Upstreams []upstream.Config
	// MaxInFlight bounds the requests under way, those aside that wait for a key
	// in progress; further ones get 503. One whose response is passed on as it comes is
	// under way until its client has it. Default 8192.
	MaxInFlight int
	// MaxBuffered bounds the bytes of requests and responses that are in memory;
	// while there are more, requests that would add to them get 503. Default 256 MiB.
	MaxBuffered int64
	// TrustedProxies may say where a request came from (X-Forwarded-*,
	// Forwarded): others are not believed.
	TrustedProxies []netip.Prefix
	// EarlyHints passes interim responses other than 100 on to clients. Each
	// response is then flushed by itself, so that an interim one cannot overtake
	// the answer to an earlier request on the same connection.
	EarlyHints bool
	// OutcomesPath is where clients ask what became of their keys, on routes that have it:
	// see Rules.Outcomes. What it names does not reach a backend then. Default
	// /.idemproxy/outcomes.
	OutcomesPath string
	// Traceparent is what requests without one get.
	Traceparent message.Traceparent
	// MaxClients bounds the connections of clients; further ones get 503. Default
	// 262144. MaxClientsPerIP bounds those from one address, or from one /64 of IPv6,
	// which is what one customer has and can choose from; further ones get 429. 0: no
	// bound. Those of TrustedProxies count for the first bound only.
	MaxClients, MaxClientsPerIP int
	// IdleTimeout closes a client's connection that sends nothing. Default 2
	// minutes.
	IdleTimeout time.Duration
	// HeaderTimeout bounds how long a request's header may take to arrive, from
	// its first byte. Default 10 s.
	HeaderTimeout time.Duration
	// BodyTimeout bounds how long a request's body may take. Default 1 h.
	BodyTimeout time.Duration
	// BodyMinRate is how many bytes a second the body of a request with a key must
	// come in, on the whole, after a HeaderTimeout of grace. 0: any.
	BodyMinRate int64
	// MaxHeader is the largest request header, in bytes. Every client connection,
	// idle ones too, holds a buffer of that size. Default 16 KiB.
	MaxHeader int
	// Secret, if set, is what fingerprints and identities are hashed with
	// (HMAC), so that who reads the store cannot try out guesses of what they
	// were made from. EarlierSecrets are what it was before: records name theirs,
	// and are compared by it.
	Secret         []byte
	EarlierSecrets [][]byte
	// Recipes gives the text of a recipe that a record names and no route has any
	// more: what RecipeTexts said once, perhaps in another process. It is called on
	// the path of requests, and must be quick. Nil: only those of the routes are
	// known. A record by an unknown recipe has its key's requests refused.
	Recipes func(idem.Recipe) (text string, ok bool)
	// RecipeUnread says of a recipe that Recipes did not know that it may be known
	// somewhere: whoever asks again later may be told. Nil: none may.
	RecipeUnread func(idem.Recipe) bool
	// SettleEvery is how often the store is looked through for attempts in doubt that
	// other processes left behind, on routes of idem.AmbiguousSettle. 0: never.
	SettleEvery time.Duration
	// Trace is told what happens.
	Trace Trace
	// Dial replaces how backends are connected to (tests).
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Lookup replaces how backends' names are resolved (tests).
	Lookup func(ctx context.Context, host string) ([]string, error)
}

// Server is the HTTP side. Make it with New.
type Server struct {
	config    Config
	live      atomic.Pointer[live]
	reloading sync.Mutex
	recipes   *operation.Recipes
	engine    *idem.Engine
	resolving singleflight.Group
	admission admission
	tunnels   upstream.Tunnels
	late      sync.WaitGroup // responses that are written after the server's own: see writeUntilClose
	clients   clients
	heads     message.Heads
	tapes     tapes
	crowd     crowd
	settler   *settler
	endpoints endpoints
	ledger    *ledger     // of what is only observed
	studies   *studies    // likewise
	leaving   atomic.Bool // see Leave
	listening listening
	http      *fasthttp.Server
}

// New makes a server; it starts with Serve.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	known := operation.NewRecipes(c.Secret, c.EarlierSecrets, c.Recipes)
	l, err := newLive(&c, known, nil)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, engine: c.Engine, recipes: known, ledger: newLedger(mostObserved), studies: newStudies()}
	s.live.Store(l)
	s.clients.most, s.clients.ofNetwork = c.MaxClients, c.MaxClientsPerIP
	s.admission.limit(c.MaxInFlight, c.MaxBuffered)
	s.http = &fasthttp.Server{
		Handler:                       s.handle,
		ErrorHandler:                  s.handleError,
		ExpectHandler:                 s.handleExpect,
		ReadBufferSize:                c.MaxHeader,
		WriteBufferSize:               2 << 10, // larger bodies are written past it
		IdleTimeout:                   c.IdleTimeout,
		Concurrency:                   math.MaxInt32, // see clients
		ReadTimeout:                   c.HeaderTimeout,
		HeaderReceived:                c.bodyDeadline,
		MaxRequestBodySize:            1 << 62, // of streams; keyed bodies have a limit of their own
		StreamRequestBody:             true,
		CloseOnShutdown:               true,
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		NoDefaultContentType:          true,
		SecureErrorLogMessage:         true,
		LazyRequestTime:               true, // nobody asks for it
		Logger:                        silent{},
	}
	s.settler = newSettler(s, c.SettleEvery)
	s.settler.start()
	s.start(l, nil)
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 8192
	}
	if c.OutcomesPath == "" {
		c.OutcomesPath = "/.idemproxy/outcomes"
	}
	if c.MaxClients <= 0 {
		c.MaxClients = fasthttp.DefaultConcurrency
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

const aDay = 24 * time.Hour

// Serve answers on ln until Shutdown. It may be called for several listeners. After
// Shutdown it closes ln and serves nothing.
func (s *Server) Serve(ln net.Listener) error {
	if !s.listening.add(ln) {
		return nil
	}
	if err := s.http.Serve(strict{ln, s}); err != nil {
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Leave asks clients to go elsewhere: each response closes its connection from
// now on. It is for the time between saying that one is about to stop and
// Shutdown.
func (s *Server) Leave() { s.leaving.Store(true) }

// Status tells how the backends are doing.
func (s *Server) Status() (all []upstream.Status) {
	for _, u := range s.live.Load().upstreams {
		all = u.Status(all)
	}
	slices.SortFunc(all, func(a, b upstream.Status) int {
		return cmp.Or(cmp.Compare(a.Upstream, b.Upstream), cmp.Compare(a.Backend, b.Backend))
	})
	return all
}

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	q := s.receive(ctx)
	if s.config.EarlyHints {
		// Which has fasthttp flush each response.
		_ = ctx.SetWriteDeadline(start.Add(aDay))
	}
	if s.enter(q) {
		s.route(q)
		s.depart(q)
	}
	s.conclude(q, start)
}

// receive is the first step of a handler.
func (s *Server) receive(ctx *fasthttp.RequestCtx) *request {
	q := requests.Get().(*request) //nolint:forcetypeassert // see New
	q.ctx, q.admission = ctx, &s.admission
	return q
}

// enter lets a request in that is well-formed, if there is room; if not, it has been
// answered.
func (s *Server) enter(q *request) bool {
	h := &q.ctx.Request.Header
	invalid := message.Sound(h)
	q.report.Method, q.report.Path = q.ctx.Method(), message.PathOf(h)
	switch {
	case invalid != nil:
		q.requestID = idOf(h)
		s.refuse(q, framingProblem(invalid), invalid)
	case !s.admission.enter():
		q.requestID = idOf(h)
		s.fail(q, &problemOverloaded, nil)
	default:
		return true
	}
	return false
}

// conclude is the last step of a handler.
func (s *Server) conclude(q *request, start time.Time) {
	ctx := q.ctx
	s.share(ctx, q.rules)
	message.NameResponse(&ctx.Response.Header, q.named())
	if s.leaving.Load() {
		ctx.Response.Header.SetConnectionClose()
	}
	if q.untilClose != nil {
		s.writeUntilClose(ctx, q.untilClose)
	}
	if s.config.Trace.Done != nil {
		s.config.Trace.Done(q.finish(start))
	}
	q.release()
}

// finish is what a trace is told in the end.
func (q *request) finish(start time.Time) *Report {
	r := &q.report
	r.Duration, r.Remote, r.Client = time.Since(start), q.ctx.RemoteAddr(), q.who.Client()
	r.RequestID, r.TraceID, r.Traceparent = q.requestID, message.TraceID(q.traceparent), q.traceparent
	return r
}

// route takes a well-formed request the way that its route and its key have it.
func (s *Server) route(q *request) {
	if s.settled(q) {
		return
	}
	leave, refusal := s.crowded(q)
	switch {
	case refusal != nil:
		s.fail(q, refusal, nil)
		return
	case leave != nil:
		q.leave = leave // see depart
	}
	if q.sought {
		s.seek(q)
		return
	}
	s.proceed(q)
}

// proceed is the way of a request of which it is known whether it has a key.
func (s *Server) proceed(q *request) {
	if !q.keyed && !q.derived {
		s.passThrough(q)
		return
	}
	s.keyed(q)
}

// settled answers what needs no body and no backend: most of what is refused.
func (s *Server) settled(q *request) bool {
	q.live = s.live.Load()
	i, asked, ambiguous := q.live.routes.take(&q.ctx.Request.Header)
	q.rules, q.report.Route = q.live.routes.of(i)
	if asked == nil && q.live.outcomes.at(&q.ctx.Request.Header) {
		s.answerOutcome(q)
		return true
	}
	err := q.identify()
	if q.isObserved() {
		q.letPass(err)
		err = nil
	}
	switch {
	case ambiguous != nil:
		s.refuse(q, &problemAmbiguous, ambiguous)
		return true
	case q.ctx.Request.Header.IsConnect():
		s.fail(q, &problemMethod, nil)
		return true
	case asked != nil:
		s.answerPreflight(q, asked)
		return true
	case err != nil:
		s.refuse(q, keyProblem(err), err)
		return true
	}
	last, err := q.head.LastHop()
	switch {
	case err != nil:
		s.refuse(q, &problemRequestInvalid, err)
		return true
	case last:
		q.answerHere()
		return true
	}
	q.report.Keyed, q.report.Key = q.keyed, q.key
	return false
}

// fail answers with a problem, and the key if the request got as far as that.
func (s *Server) fail(q *request, p *problem, err error) {
	p = q.rules.answered(p)
	q.report.Outcome, q.report.Status, q.report.Err = p.outcome, p.status, err
	var key *idem.Key
	if q.report.Keyed {
		key = &q.key
	}
	in := instance{key: key}
	if p.outcome == Mismatch { // one that would have been one is nobody's business
		in.reason, in.differs = differsSentence(q.report.Differs), q.report.Differs
	}
	q.writeProblem(p, in)
}

// refuse answers with a problem and its reason, of our own wording.
func (s *Server) refuse(q *request, p *problem, reason error) {
	q.report.Outcome, q.report.Status, q.report.Err = p.outcome, p.status, reason
	q.writeProblem(p, instance{reason: reason.Error()})
}

// silent: what fasthttp would log is traced.
type silent struct{}

func (silent) Printf(string, ...any) {}
