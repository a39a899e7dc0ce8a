package messages_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// played is an exchange that has been played.
type played struct {
	*world
	x, y         *exchange // y is the sibling; nil for none
	first, again *answer
	joined       *answer
	other, mixed *answer // the sibling's: afterwards, and meanwhile
	next         *answer // of a request that comes last
	storm        []*answer
	seen         []seen
	idle         bool
	strays       []string
	local        []string
}

func (p *played) answers() (all []*answer) {
	for _, a := range append([]*answer{p.first, p.joined, p.again, p.other, p.mixed, p.next}, p.storm...) {
		if a != nil {
			all = append(all, a)
		}
	}
	return all
}

// law holds for all exchanges. It says what is wrong; empty for nothing.
type law struct {
	name string
	of   func(*played) string
}

func laws() []law {
	return []law{
		{"no answer stands still", standing},
		{"answers are framed as they say", framed},
		{"what parsers may read differently is refused", refused},
		{"a refusal can be read by who still sends", sendable},
		{"nobody makes requests of what is none", strays},
		{"a request reaches the backend as it is", forwarded},
		{"what comes behind an answer is nobody's", nobodysAnswer},
		{"an answer reaches the client as it is", passed},
		{"an operation is executed once", once},
		{"what is not to be kept is not", kept},
		{"who asks for something else gets no other answer", unshared},
		{"memory has its bound", bounded},
	}
}

// check is the first law that was broken.
func check(p *played) (name, why string) {
	for _, l := range laws() {
		if why := l.of(p); why != "" {
			return l.name, why
		}
	}
	return "", ""
}

func standing(p *played) string {
	for _, a := range p.answers() {
		if a.timedOut() {
			return fmt.Sprintf("after %v there was %v", p.patience, a)
		}
	}
	if !p.idle {
		return fmt.Sprintf("after %v the backend still has something under way", p.patience)
	}
	return ""
}

// breaksOff says whether the client of an answer can notice that it broke off.
func (r *reply) breaksOff(method string) bool {
	return r.cut && r.hasBody(method) && r.framing != 'e' && (r.framing == 'c' || r.bytes() != "")
}

func framed(p *played) string {
	for _, a := range p.answers() {
		if a != p.first && p.stream && len(p.x.reply.bytes()) > p.maxResponse {
			continue // who reads with others is left behind if it is slower by more than what is kept: docs/streams.md
		}
		if a.err != nil && !p.x.reply.breaksOff(p.x.method) && p.x.lengths == nil {
			return a.String()
		}
	}
	return ""
}

// doubt says why two parsers may read a request differently; empty if they do not.
func doubt(x *exchange, s *setting) string {
	a, err := url.Parse(x.target)
	b, err2 := url.ParseRequestURI(x.target)
	switch {
	case x.startEnd == "\n", slices.ContainsFunc(x.fields, func(f field) bool { return f.end == "\n" }), x.chunks != nil && x.chunkEnd == "\n":
		return "a line ends in LF alone"
	case x.lengths != nil && (x.chunks != nil || len(x.lengths) > 1 || strings.Trim(x.lengths[0], "0123456789") != "" || x.lengths[0] == ""):
		return "its length"
	case err != nil || err2 != nil || a.EscapedPath() != b.EscapedPath() || a.RawQuery != b.RawQuery:
		return "its target"
	}
	if keys := keysOf(x, s.sources); len(keys) > 1 && !s.observe {
		return fmt.Sprintf("its key is one of %q", keys)
	}
	return ""
}

func refused(p *played) string {
	why := doubt(p.x, p.setting)
	switch {
	case why == "":
		return ""
	case len(p.seen) > 0:
		return "it reached the backend: " + why
	case p.first.err == nil && (p.first.status/100 != 4 && p.first.status != 501 || !p.first.ours() && p.x.method != "HEAD"):
		return why + ", and it was answered with " + p.first.String()
	}
	return ""
}

func sendable(p *played) string {
	for _, a := range p.answers() {
		if a.unsent != nil {
			return fmt.Sprintf("after %d: %v", a.status, a.unsent)
		}
	}
	return ""
}

func strays(p *played) string {
	if len(p.strays) > 0 {
		return fmt.Sprint(p.strays)
	}
	return ""
}

// enforced says whether the request is one with a key for the proxy.
func (p *played) enforced() bool { return !p.observe && (carries(p.x, p.sources) || p.derived()) }

// derived says whether a request without a key gets one of what it says: of a known caller,
// with a body of known length.
func (p *played) derived() bool {
	caller := strings.Join(values(p.x.fields, "Authorization"), "")
	return p.derive && caller != "" && p.x.chunks == nil && (p.x.method == "POST" || p.x.method == "PATCH")
}

// endsHop says of a field's name whether it is for one connection.
func endsHop(name string, nominated []string) bool {
	switch strings.ToLower(name) {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization", "proxy-authenticate", "proxy-connection", "content-length":
		return true
	}
	return slices.ContainsFunc(nominated, func(one string) bool { return strings.EqualFold(one, name) })
}

// nominated are the names that Connection has.
func nominated(all []field) (names []string) {
	for _, value := range values(all, "Connection") {
		for one := range strings.SplitSeq(value, ",") {
			if one = strings.TrimSpace(one); !strings.EqualFold(one, "Idempotency-Key") { // which nobody can strip
				names = append(names, one)
			}
		}
	}
	return names
}

// says are the fields of a request that its backend is to have.
func (p *played) says(all []field, keyed bool) (lines []string) {
	gone := nominated(all)
	for _, f := range all {
		name := strings.ToLower(f.name)
		switch {
		case endsHop(name, gone), name == "host", name == "via", name == "x-request-id", name == "expect":
		case strings.HasPrefix(name, "x-forwarded"), name == "forwarded", name == "x-original-url": // where it came from, nobody may say
		case name == "idempotency-attempt", name == "idempotency_key": // what a backend may take for this proxy's
		case keyed && (strings.HasPrefix(name, "idempotency-") || name == "x-idempotency-key"):
		case keyed && p.async && name == "prefer":
		case p.x.joins && name == "last-event-id": // which one of the requests may have, and others not
		default:
			lines = append(lines, f.name+": "+strings.Trim(f.value, " \t"))
		}
	}
	return lines
}

func forwarded(p *played) string {
	x, sent := p.x, []field{{name: "X-Case", value: p.x.id}}
	for _, t := range x.mediaTypes() {
		sent = append(sent, field{name: "Content-Type", value: t})
	}
	if x.content.zipped && x.content.kind != "" {
		sent = append(sent, field{name: "Content-Encoding", value: "gzip"})
	}
	sent = append(sent, x.fields...)
	for _, s := range p.seen {
		if s.method != x.method || s.target != originForm(x) || s.host != x.host || s.body != x.content.bytes() {
			return fmt.Sprintf("%s %s of %s with %.100q", s.method, s.target, s.host, s.body)
		}
		want, got := p.says(sent, p.enforced()), p.says(s.fields, p.enforced())
		if !slices.Equal(want, got) {
			return fmt.Sprintf("the backend has\n  %s\nand not\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
	return ""
}

// passed is about what the backend answered.
func passed(p *played) string {
	for _, a := range p.answers() {
		if a == p.other || a == p.mixed || a == p.next || a.err != nil || a.ours() || a.header == nil || a.header.Get("X-Execution") == "" && p.x.method == "HEAD" {
			continue
		}
		r := &p.x.reply
		if a.status != r.status {
			return "another status: " + a.String()
		}
		if why := r.sameBody(p, a); why != "" {
			return why
		}
		if why := r.sameFields(a); why != "" {
			return why
		}
	}
	return ""
}

// sent is the body that clients can have.
func (r *reply) sent(method string) string {
	body := r.bytes()
	n := max(1, min(r.pieces, len(body)))
	switch {
	case !r.hasBody(method):
		return ""
	case r.cut && r.framing == 'e':
		return body[:len(body)*(n-1)/n]
	}
	return body
}

func (r *reply) sameBody(p *played, a *answer) string {
	want := r.sent(p.x.method)
	decoded := r.zipped && a.header.Get("Content-Encoding") == ""
	if decoded {
		want = r.body
	}
	if a.body == want || decoded && p.x.method == "HEAD" {
		return ""
	}
	last := values(p.x.fields, "Last-Event-ID")
	if a == p.joined && p.x.last != "" {
		last = append(last, p.x.last)
	}
	if before, is := strings.CutSuffix(want, a.body); is && p.stream && len(last) > 0 && r.kind == "text/event-stream" &&
		slices.ContainsFunc(last, func(id string) bool {
			events := strings.Split(before, "id: ")
			return strings.HasPrefix(events[len(events)-1], id)
		}) {
		return ""
	}
	return fmt.Sprintf("another body: %.200q, %d bytes, want %d", a.body, len(a.body), len(want))
}

func (r *reply) sameFields(a *answer) string {
	gone := nominated(r.fields)
	decoded := r.zipped && a.header.Get("Content-Encoding") == ""
	all := slices.Clone(r.fields)
	if r.server {
		all = append(all, field{name: "Server", value: "origin"})
	}
	if r.zipped && !decoded {
		all = append(all, field{name: "Content-Encoding", value: "gzip"})
	}
	for _, f := range all {
		switch name := strings.ToLower(f.name); {
		case endsHop(name, gone), name == "idempotency-policy", name == "idempotency-outcome", name == "x-request-id", name == "idempotent-replayed", decoded && name == "etag":
			continue
		}
		var got []string
		for name, values := range a.header {
			if strings.EqualFold(name, f.name) {
				got = append(got, values...)
			}
		}
		want := values(all, f.name)
		if strings.EqualFold(f.name, "Content-Encoding") { // one list, on however many lines
			want, got = []string{strings.Join(want, ", ")}, []string{strings.Join(got, ", ")}
		}
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%s: %q, want %q", f.name, got, want)
		}
	}
	if got := strings.Join(a.header.Values("Content-Type"), "|"); got != r.kind {
		return fmt.Sprintf("Content-Type: %q, want %q", got, r.kind)
	}
	for name := range a.header {
		switch strings.ToLower(name) {
		case "x-execution", "x-for", "idempotency-key-derived", "x-request-id", "content-length", "content-type", "connection", "idempotent-replayed":
			continue
		}
		if len(values(all, name)) == 0 {
			return fmt.Sprintf("%s: %q, which the backend did not send", name, a.header[name])
		}
	}
	return ""
}

// noStore says whether the backend does not want the answer to be kept.
func (r *reply) noStore() bool {
	return slices.ContainsFunc(values(r.fields, "Idempotency-Policy"), func(line string) bool { return strings.Contains(line, "no-store") })
}

// ends says whether the operation is not executed again once there was such an answer.
func (r *reply) ends(method string, hold bool) bool {
	switch r.status {
	case 401, 407, 408, 421, 425, 429, 502, 503, 504, 511:
		return false
	}
	return (hold || !r.breaksOff(method)) && !r.noStore()
}

func once(p *played) string {
	if n := len(p.seen); n > 1 && p.enforced() && p.x.reply.ends(p.x.method, p.hold) {
		return fmt.Sprintf("%d executions", n)
	}
	return ""
}

func kept(p *played) string {
	if !p.x.reply.noStore() || len(values(p.x.reply.fields, "Idempotent-Replayed")) > 0 {
		return ""
	}
	for _, a := range []*answer{p.again, p.other} {
		if a != nil && a.replayed() {
			return "it was replayed: " + a.String()
		}
	}
	return ""
}

func unshared(p *played) string {
	for _, a := range []*answer{p.other, p.mixed} {
		if a == nil || a.ours() || a.header.Get("X-For") != p.x.id {
			continue
		}
		if mine, other := views(p.x, p.setting), views(p.y, p.setting); !slices.Equal(mine, other) {
			return fmt.Sprintf("backends read\n  %q and\n  %q, and both have one answer", mine, other)
		}
	}
	return ""
}

func bounded(p *played) string {
	for _, a := range p.answers() {
		if p.x.reply.zipped && a.replayed() && a.header.Get("Content-Encoding") == "" && int64(len(a.body)) > p.maxBuffered {
			return fmt.Sprintf("an answer was decoded to %d bytes, with a bound of %d", len(a.body), p.maxBuffered)
		}
	}
	if len(p.local) > 0 {
		return fmt.Sprint(p.local)
	}
	return ""
}
