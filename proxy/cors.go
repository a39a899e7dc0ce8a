package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// CORS says which scripts in browsers may send requests from pages of other origins,
// and read what is answered (https://fetch.spec.whatwg.org/#http-cors-protocol).
// Without Origins that is the backend's affair: preflights reach it, and its fields
// pass. With them preflights are answered here, and all answers have fields of this
// proxy's making, replays and problems too, in place of the backend's.
type CORS struct {
	// Origins are those of the pages: see CheckOrigin.
	Origins []string
	// Methods may be sent; "*" is any.
	Methods []string
	// Headers may be sent, besides Content-Type, Prefer and those that Rules tell
	// keys and callers by; "*" is any.
	Headers []string
	// Exposed are fields that scripts may read, besides those that this proxy writes.
	Exposed []string
	// Credentials lets scripts send cookies and the like. Not with the origin "*".
	Credentials bool
	// MaxAge is how long a browser need not ask again.
	MaxAge time.Duration
}

// Errors of settings.
var (
	ErrOrigin = errors.New("*, or an origin as browsers send it (scheme://host, with a port unless it is the scheme's own, " +
		"in lower case, without a path), such as https://shop.example or https://*.shop.example")
	errCredentials = errors.New("credentials need origins that are named: * is any page of any site")
)

// Names of fields of the protocol.
const (
	corsPrefix         = "Access-Control-"
	corsAllowOrigin    = "Access-Control-Allow-Origin"
	corsRequestMethod  = "Access-Control-Request-Method"
	corsRequestHeaders = "Access-Control-Request-Headers"
)

const anyOf = "*"

// CheckOrigin says whether an origin can be compared with what browsers send.
// "https://*.example.com" is every name below example.com, "*" is any origin.
func CheckOrigin(origin string) error {
	scheme, host, found := strings.Cut(origin, "://")
	host = strings.TrimPrefix(host, "*.")
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		name, port = host[:i], host[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
			found = false
		}
	}
	own := scheme == "http" && port == "80" || scheme == "https" && port == "443"
	switch {
	case origin == anyOf:
		return nil
	case !found, own, !isName(scheme, "+-."), !isName(strings.Trim(name, "[]"), "-._:"):
		return ErrOrigin
	}
	return nil
}

// isName: lower case letters, digits, and signs.
func isName(s, signs string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(signs, c)
	})
}

func (c *CORS) check() error {
	for _, origin := range c.Origins {
		if err := CheckOrigin(origin); err != nil {
			return fmt.Errorf("%q is none of what can be compared: want %w", origin, err)
		}
	}
	if c.Credentials && slices.Contains(c.Origins, anyOf) {
		return errCredentials
	}
	return nil
}

// sharing is a route's CORS, ready to be answered with.
type sharing struct {
	anyOrigin, anyMethod, anyHeader bool
	exact                           [][]byte
	below                           []belowOrigin
	methods, headers                []string
	credentials                     bool
	allowMethods, allowHeaders      []byte
	exposed                         []byte
	maxAge                          time.Duration
}

// belowOrigin is every name between two parts of an origin.
type belowOrigin struct{ before, after []byte }

// newSharing is nil for a route that leaves origins to its backend. told are the
// fields that the route tells requests apart by.
func newSharing(c *CORS, told []string) *sharing {
	if len(c.Origins) == 0 {
		return nil
	}
	s := &sharing{
		anyOrigin: slices.Contains(c.Origins, anyOf), anyMethod: slices.Contains(c.Methods, anyOf),
		anyHeader: slices.Contains(c.Headers, anyOf), credentials: c.Credentials, methods: c.Methods,
		maxAge: c.MaxAge,
	}
	for _, origin := range c.Origins {
		if before, after, wild := strings.Cut(origin, "*."); wild {
			s.below = append(s.below, belowOrigin{[]byte(before), []byte("." + after)})
		} else {
			s.exact = append(s.exact, []byte(origin))
		}
	}
	for _, name := range slices.Concat([]string{"Content-Type", "Prefer"}, told, c.Headers) {
		if !s.sends([]byte(name)) {
			s.headers = append(s.headers, name)
		}
	}
	s.allowMethods, s.allowHeaders = []byte(strings.Join(s.methods, ", ")), []byte(strings.Join(s.headers, ", "))
	s.exposed = []byte(strings.Join(append([]string{
		message.HeaderReplayed, headerDerived, headerDuplicate, headerUnprotected, "Retry-After", message.HeaderRequestID,
		string(linkName), "Location", message.HeaderAttempt, headerReplayUntil,
	}, c.Exposed...), ", "))
	return s
}

// sends says whether a script may send a field.
func (s *sharing) sends(name []byte) bool {
	return slices.ContainsFunc(s.headers, func(known string) bool { return message.EqualFold(name, known) })
}

// allows says whether an origin is one of those that were named, or any may be.
func (s *sharing) allows(origin []byte) bool {
	if s.anyOrigin {
		return true
	}
	for _, known := range s.exact {
		if bytes.Equal(origin, known) {
			return true
		}
	}
	for _, b := range s.below {
		rest, ok := bytes.CutPrefix(origin, b.before)
		name, under := bytes.CutSuffix(rest, b.after)
		if ok && under && isName(string(name), "-._") {
			return true
		}
	}
	return false
}

// share writes into an answer who may read it. Whether it is for the script that
// asked is a part of it, so that no cache gives it to another one.
func (s *sharing) share(h *fasthttp.ResponseHeader, origin []byte) {
	if !s.anyOrigin && !varies(h) {
		h.Add("Vary", "Origin")
	}
	switch {
	case !s.allows(origin):
		return
	case s.anyOrigin:
		h.SetCanonical([]byte(corsAllowOrigin), []byte(anyOf))
	default:
		h.SetCanonical([]byte(corsAllowOrigin), origin)
	}
	if s.credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.SetCanonical([]byte("Access-Control-Expose-Headers"), s.exposed)
}

// varies says whether an answer is told to be another for other origins already.
func varies(h *fasthttp.ResponseHeader) bool {
	for name, value := range h.All() {
		if message.EqualFold(name, "Vary") && (message.ListHas(value, []byte("Origin")) || message.ListHas(value, []byte(anyOf))) {
			return true
		}
	}
	return false
}

// isShare says of a response's field that it is about who may read it.
func isShare(name []byte) bool {
	return len(name) > len(corsPrefix) && message.EqualFold(name[:len(corsPrefix)], corsPrefix)
}

// unshared says which fields of a backend's response are not passed on; nil for all.
func (r *Rules) unshared() func(name []byte) bool {
	if r.sharing == nil {
		return nil
	}
	return isShare
}

// share is about every answer of the handler, also to what was refused before it had
// a route.
func (s *Server) share(ctx *fasthttp.RequestCtx, rules *Rules) {
	if rules == nil {
		routes := s.live.Load().routes
		if !routes.shared {
			return
		}
		i, _, _ := routes.take(&ctx.Request.Header)
		rules, _ = routes.of(i)
	}
	if rules.sharing != nil && ctx.Response.StatusCode() != fasthttp.StatusSwitchingProtocols {
		rules.sharing.share(&ctx.Response.Header, originOf(&ctx.Request.Header))
	}
}

// originOf is where a script comes from; nil if the request does not say so once.
func originOf(h *fasthttp.RequestHeader) (origin []byte) {
	for name, value := range h.All() {
		switch {
		case !message.EqualFold(name, "Origin"):
		case origin != nil:
			return nil
		default:
			origin = value
		}
	}
	return origin
}

// preflight is the method that a browser asks for before a script sends it; nil if
// the request is no such question.
func preflight(h *fasthttp.RequestHeader) []byte {
	if !h.IsOptions() || len(originOf(h)) == 0 {
		return nil
	}
	return message.RequestValue(h, corsRequestMethod)
}

// take is find for any request: a preflight takes the route that the request would
// take which it asks for, if that route has it answered here.
func (r *routes) take(h *fasthttp.RequestHeader) (i int, asked []byte, err error) {
	if r.shared {
		if asked = preflight(h); len(asked) > 0 {
			if i, err = r.find(h, asked); r.sharingOf(i) != nil {
				return i, asked, err
			}
		}
	}
	i, err = r.find(h, h.Method())
	return i, nil, err
}

func (r *routes) sharingOf(i int) *sharing {
	rules, _ := r.of(i)
	return rules.sharing
}

// Why a preflight is refused.
var (
	errOrigin = errors.New("cors_origins does not have the page's origin")
	errMethod = errors.New("cors_methods does not have the method")
	errHeader = errors.New("neither cors_headers nor what tells keys and callers apart here has the header")
)

// answerPreflight answers whether a script may send what it is about to.
func (s *Server) answerPreflight(q *request, method []byte) {
	in, out, sharing := &q.ctx.Request.Header, &q.ctx.Response.Header, q.rules.sharing
	headers := message.RequestValue(in, corsRequestHeaders)
	err := sharing.permits(originOf(in), headers)
	if err == nil && !sharing.uses(string(method)) {
		err = fmt.Errorf("%w %q", errMethod, shortened(method))
	}
	if err != nil {
		s.refuse(q, &problemOrigin, err)
		return
	}
	q.report.Outcome, q.report.Status = Passed, fasthttp.StatusNoContent
	out.SetStatusCode(fasthttp.StatusNoContent)
	allowMethods, allowHeaders := sharing.allowMethods, sharing.allowHeaders
	if sharing.anyHeader {
		allowHeaders = headers
	}
	age := q.live.routes.remembered(in, sharing, method, allowHeaders)
	if sharing.anyMethod || age < time.Second { // of the others, other routes may say something else
		allowMethods = method
	}
	out.SetBytesV("Access-Control-Allow-Methods", allowMethods)
	if len(allowHeaders) > 0 {
		out.SetBytesV("Access-Control-Allow-Headers", allowHeaders)
	}
	out.Set("Access-Control-Max-Age", strconv.FormatInt(int64(age/time.Second), 10))
	out.Add("Vary", corsRequestMethod+", "+corsRequestHeaders)
}

// remembered is how long a browser may go by the answer to a preflight. It keeps methods
// and headers apart, and for the URL, not for the route: the headers that it may send
// with one method it then sends with every other that was allowed, and with GET, HEAD
// and POST, which need not be. So the answer may be kept only if the routes that the
// URL takes with these methods all say the same, and as long as all of them have it.
func (r *routes) remembered(h *fasthttp.RequestHeader, asked *sharing, method, headers []byte) time.Duration {
	age, origin := asked.maxAge, originOf(h)
	methods := []string{fasthttp.MethodGet, fasthttp.MethodHead, fasthttp.MethodPost, string(method)}
	if !asked.anyMethod {
		methods = append(methods, asked.methods...)
	}
	for _, one := range methods {
		i, err := r.find(h, []byte(one))
		other := r.sharingOf(i)
		switch {
		case err != nil, other == nil, asked.credentials && !other.credentials,
			other.permits(origin, headers) != nil, !isSafe(one) && !other.uses(one):
			return 0
		}
		age = min(age, other.maxAge)
	}
	return age
}

// isSafe is for methods that change nothing: who may send others may send these.
func isSafe(method string) bool { return method == fasthttp.MethodGet || method == fasthttp.MethodHead }

// uses says whether a script may send a method.
func (s *sharing) uses(method string) bool { return s.anyMethod || slices.Contains(s.methods, method) }

// permits says why a script of an origin may not send such headers.
func (s *sharing) permits(origin, headers []byte) error {
	if !s.allows(origin) {
		return fmt.Errorf("%w %q", errOrigin, shortened(origin))
	}
	for name := range bytes.SplitSeq(headers, []byte{','}) {
		name = bytes.TrimSpace(name)
		if len(name) > 0 && !s.anyHeader && !s.sends(name) {
			return fmt.Errorf("%w %q", errHeader, shortened(name))
		}
	}
	return nil
}

// shortened is what a client says, for a message.
func shortened(b []byte) []byte { return b[:min(len(b), 100)] }
