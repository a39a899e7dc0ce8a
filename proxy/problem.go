package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// ProblemBase is where the problem types are documented; a type is this plus
// its name (RFC 9457 section 3.1.1).
const ProblemBase = "https://github.com/idemproxy/idemproxy/blob/main/docs/problems.md#"

// problem is one kind of answer that the proxy makes itself.
type problem struct {
	outcome    Outcome
	status     int
	name       string // of its type
	title      string
	detail     string // what happened, and what to do
	retryAfter string // seconds; empty for none
	closes     bool   // the connection cannot be used any further
	retryable  bool   // the same request, sent again, may fare better
}

// The problems: docs/problems.md describes each, and a test holds it to that.
func problems() map[string]*problem {
	all := []*problem{
		&problemKeyInvalid, &problemKeyMissing, &problemKeyFormat, &problemKeyUnreadable, &problemKeyBatch, &problemToken,
		&problemScope, &problemCallerUnknown, &problemBodyTooLarge, &problemBodyBroken, &problemSlow, &problemClientGone,
		&problemHeaderTooLarge, &problemRequestHeader, &problemRequestInvalid, &problemVersion,
		&problemAmbiguous, &problemOrigin, &problemMethod, &problemInProgress, &problemMismatchPayload, &problemMismatchIdentity,
		&problemUnknown,
		&problemNotReplayable, &problemDuplicate, &problemEncoding, &problemStore, &problemLeaseLost, &problemUnreachable, &problemBusy,
		&problemOverloaded,
		&problemClients, &problemClientsOfAddress, &problemCallerBusy, &problemAddressBusy, &problemKeyBusy, &problemExpired,
		&problemRecipe, &problemUnreadable,
		&problemCut, &problemCutNoKey, &problemTimeout, &problemHeld, &problemResolvable, &problemVoided, &problemUnsettled,
		&problemNoOutcome, &problemOutcomeMethod,
	}
	byName := make(map[string]*problem, len(all))
	for _, p := range all {
		byName[p.name] = p
	}
	return byName
}

//nolint:gochecknoglobals // constants, of a kind that Go has no word for
var (
	problemKeyInvalid = problem{
		Refused, 400, "key-invalid", "Malformed idempotency key",
		"Send exactly one key of 1 to 255 printable ASCII characters, bare or as a quoted RFC 9651 string.", "", false, false,
	}
	problemKeyMissing = problem{
		Refused, 400, "key-missing", "Idempotency key required",
		"This route takes a request that may change something only with a key (require_key), in the Idempotency-Key header " +
			"unless it has others (key_headers, key). Make a unique key per operation and repeat it on retries.", "", false, false,
	}
	problemKeyFormat = problem{
		Refused, 400, "key-format", "Idempotency key of another format",
		"This route takes only keys of a certain format (key_format, key_min_length); nothing was forwarded.", "", false, false,
	}
	problemKeyUnreadable = problem{
		Refused, 400, "key-unreadable", "Body cannot be read",
		"On this route the idempotency key is in the body (key), and the body is not what its Content-Type and " +
			"Content-Encoding say: malformed JSON, UTF-16, a member that occurs twice, a malformed GraphQL document or form. " +
			"Nothing was forwarded.",
		"", false, false,
	}
	problemKeyBatch = problem{
		Refused, 400, "key-of-batch", "Several operations in one request",
		"On this route the idempotency key is in the body (key). This body has several operations, in a list or with keys " +
			"that differ, so no single key could say which of them were executed. Nothing was forwarded. Send each operation " +
			"in a request of its own.",
		"", false, false,
	}
	problemToken = problem{
		Refused, 401, "token-invalid", "Token cannot be verified",
		"On this route a claim of the bearer token says which scope a key is in, so the token must be valid. Send a fresh " +
			"token with the same key.",
		"", false, false,
	}
	problemScope = problem{
		Refused, 400, "scope-invalid", "Scope missing or malformed",
		"On this route another part of the request says which scope a key is in (scope). The request must have it exactly " +
			"once, in printable ASCII.",
		"", false, false,
	}
	problemCallerUnknown = problem{
		Refused, 400, "caller-unknown", "Caller not known",
		"On this route a key belongs to its caller (bind, require_bind). So the request must have a header that " +
			"identifies the caller, or a client certificate. Nothing was forwarded.", "", false, false,
	}
	problemRequestInvalid = problem{
		Refused, 400, "request-invalid", "Malformed request",
		"The request is not well-formed HTTP/1.1; nothing was forwarded.", "", true, false,
	}
	problemRequestHeader = problem{
		Refused, 431, "header-too-large", "Request header too large",
		"The request line and header fields are larger than this proxy takes (max_header); nothing was forwarded.", "", true, false,
	}
	problemAmbiguous = problem{
		Refused, 400, "target-ambiguous", "Ambiguous request target",
		"Servers read such a target in different ways, so this proxy cannot tell which route it is for (ambiguous_paths); " +
			"nothing was forwarded.", "", false, false,
	}
	problemOrigin = problem{
		Refused, 403, "origin-not-allowed", "Origin not allowed",
		"Scripts of this origin may not send such a request to this proxy (cors_origins, cors_methods, cors_headers); " +
			"nothing was forwarded.",
		"", false, false,
	}
	problemVersion = problem{
		Refused, 505, "version-unsupported", "HTTP version not supported",
		"This proxy speaks HTTP/1.1 and HTTP/1.0; nothing was forwarded.", "", true, false,
	}
	problemBodyBroken = problem{
		Refused, 400, "body-incomplete", "Incomplete request body",
		"The body ended before its announced length, or its chunks are malformed. With an idempotency key, " +
			"nothing was forwarded. Send it again.", "", true, true,
	}
	problemSlow = problem{
		Refused, 408, "request-timeout", "Request too slow",
		"The request did not arrive in time (header_timeout, body_timeout, body_min_rate). With an idempotency key, " +
			"nothing was forwarded. Send it again.", "", true, true,
	}
	problemClientGone = problem{
		Refused, 499, "client-gone", "Client gone",
		"The client ended its side of the connection before it had the response, and had sent no idempotency key. So the " +
			"proxy closed the connection to the backend. The request may have been executed. If the same request is sent " +
			"again, it may be executed again.", "", true, false,
	}
	problemHeaderTooLarge = problem{
		NotReplayable, 502, "response-header-too-large", "Response header too large",
		"The backend answered with a header larger than this proxy takes (max_response_header). The request was executed. " +
			"With an idempotency key, it is not executed again: look up its result instead of retrying.", "", false, false,
	}
	problemMethod = problem{
		Refused, 501, "method-unsupported", "Method not supported",
		"CONNECT is for forward proxies; this is a reverse proxy.", "", true, false,
	}
	problemBodyTooLarge = problem{
		Refused, 413, "body-too-large", "Request body too large",
		"A request with an idempotency key may have a body of limited size (max_request_body); nothing was forwarded.", "", true, false,
	}
	problemNoOutcome = problem{
		Refused, 404, "outcome-none", "No such operation",
		"Nothing is known here of a request with this key that these credentials may ask about. It was never seen, or its key is " +
			"free again, or its record has ended. Send the request with the same key to have it executed.", "", false, false,
	}
	problemOutcomeMethod = problem{
		Refused, 405, "outcome-method", "Method not allowed",
		"Use GET or HEAD to ask what became of a request (outcomes_path); nothing was forwarded.", "", false, false,
	}
	problemInProgress = problem{
		InProgress, 409, "in-progress", "Request in progress",
		"A request with this idempotency key is still being processed. Retry after a moment to get its response.", "1", false, true,
	}
	problemMismatchPayload = problem{
		Mismatch, 422, "key-reused", "Idempotency key reused",
		"This key was used before with another method, host, target, body or media type. Use a new key for a new operation.",
		"", false, false,
	}
	problemMismatchIdentity = problem{
		Mismatch, 422, "key-of-another-caller", "Idempotency key of another caller",
		"This key was used before with other credentials. Use a new key, or the credentials of the first request.", "", false, false,
	}
	problemUnknown = problem{
		Unknown, 409, "outcome-unknown", "Outcome unknown",
		"The first request with this key may or may not have been executed, so it is not repeated. " +
			"Ask the operator to resolve the key, or look up the operation before you try with a new key.", "", false, false,
	}
	problemNotReplayable = problem{
		NotReplayable, 409, "response-not-kept", "Response not kept",
		"The request with this key was executed, but its response was too large to keep. " +
			"Look up its result instead of retrying.", "", false, false,
	}
	problemExpired = problem{
		Expired, 410, "key-expired", "Response not kept any more",
		"The request with this key was executed, and its response is not kept any more (retention). It is not executed again. " +
			"Look up its result; use a new key for a new operation.", "", false, false,
	}
	problemEncoding = problem{
		NotReplayable, 406, "encoding-not-accepted", "Encoding not accepted",
		"The stored response has a content coding that this request does not accept, and the proxy cannot decode it. " +
			"Send the Accept-Encoding of the first request.", "", false, false,
	}
	problemDuplicate = problem{
		Duplicate, 409, "duplicate-payload", "Duplicate payload",
		"You sent the same request under another idempotency key a short while ago. Repeat that key for a retry; " +
			"if this is meant to be another operation, wait, or make it differ.", "", false, false,
	}
	problemStore = problem{
		StoreFailed, 500, "store-unavailable", "Idempotency store unavailable",
		"The request was not forwarded, because the proxy could not protect it against a second execution. " +
			"Retry with the same key.", "", false, true,
	}
	problemRecipe = problem{
		StoreFailed, 500, "recipe-unknown", "Made by settings that are not known any more",
		"The record of this key was made with settings (fingerprint, bind, secret_file) that this proxy does not know any " +
			"more. So the proxy cannot tell whether this is the same request. It was not forwarded. Ask the operator.",
		"", false, false,
	}
	problemUnreadable = problem{
		StoreFailed, 500, "record-unreadable", "Stored response cannot be read",
		"A request with this key was made before. What is stored of it cannot be read: it is encrypted with a key that this " +
			"proxy does not have (encryption_keys), or it is damaged. So the request was not forwarded. Ask the operator, and do " +
			"not send it with a new key.",
		"", false, false,
	}
	problemLeaseLost = problem{
		LeaseLost, 409, "lease-lost", "Lease lost",
		"The proxy was stopped for too long before it could forward the request. Retry with the same key.", "1", false, true,
	}
	problemUnreachable = problem{
		BackendUnreachable, 502, "backend-unreachable", "Backend unreachable",
		"The backend cannot be reached; nothing was sent to it. Retry with the same key.", "", false, true,
	}
	problemOverloaded = problem{
		Overloaded, 503, "overloaded", "Overloaded",
		"This proxy has the largest permitted number of requests or bytes under way (max_in_flight, max_buffered); " +
			"nothing was done. Retry with the same key.",
		"1", false, true,
	}
	problemClients = problem{
		Overloaded, 503, "too-many-clients", "Too many connections",
		"The largest permitted number of clients are connected (max_clients); nothing was read of the request. Retry with " +
			"the same key.",
		"1", true, true,
	}
	problemClientsOfAddress = problem{
		Overloaded, 429, "too-many-clients-of-address", "Too many connections from one address",
		"This address (IPv6: its /64) has the largest permitted number of open connections (max_clients_per_ip); nothing " +
			"was read of the request. Retry with the same key.", "1", true, true,
	}
	problemCallerBusy = problem{
		Overloaded, 429, "too-many-of-caller", "Too many requests under way",
		"This caller has the largest permitted number of requests under way (max_per_caller); nothing was done. Retry " +
			"with the same key.",
		"1", false, true,
	}
	problemAddressBusy = problem{
		Overloaded, 429, "too-many-of-address", "Too many requests under way from one address",
		"This address (IPv6: its /64) has the largest permitted number of requests under way (max_per_address); nothing was done. " +
			"Retry with the same key.", "1", false, true,
	}
	problemKeyBusy = problem{
		Overloaded, 429, "too-many-with-key", "Too many requests with this key",
		"The largest permitted number of requests with this key are under way (max_per_key); nothing was done. Retry with " +
			"the same key.",
		"1", false, true,
	}
	problemBusy = problem{
		BackendBusy, 503, "backend-busy", "Backend busy",
		"All connections to the backend are in use; nothing was sent to it. Retry with the same key.", "1", false, true,
	}
	problemCut = problem{
		BackendCut, 502, "backend-cut", "Backend connection lost",
		"The connection to the backend broke before its response was complete. The request may have been executed. " +
			"The key is free: a retry with it is forwarded.", "", false, true,
	}
	// For what had no key; status and outcome are those of the failure.
	problemCutNoKey = problem{
		BackendCut, 502, "backend-cut-no-key", "Backend connection lost, no key",
		"The connection to the backend broke, or it did not answer in time. The request may have been executed. It had no " +
			"idempotency key. If the same request is sent again, it may be executed again.", "", false, false,
	}
	problemTimeout = problem{
		BackendTimeout, 504, "backend-timeout", "Backend timeout",
		"The backend did not answer in time. The request may have been executed. " +
			"The key is free: a retry with it is forwarded.", "", false, true,
	}
	// For what broke under on_ambiguous: hold; status and outcome are those of
	// the failure.
	problemHeld = problem{
		BackendCut, 502, "backend-outcome-unknown", "Backend outcome unknown",
		"The connection to the backend broke, or it did not answer in time. The request may have been executed, " +
			"so the key is held: retries get a 409 until it is resolved.", "", false, false,
	}
	// For what is held where a resolver is asked before a retry is refused; status and
	// outcome likewise.
	problemResolvable = problem{
		BackendCut, 502, "outcome-resolvable", "Outcome not known yet",
		"The connection to the backend broke, or it did not answer in time, and nobody has said yet whether the request was " +
			"executed. The key is held. A retry with the same key asks the backend's resolver: if it knows, the retry is answered.",
		"1", false, true,
	}
	// For what broke under on_ambiguous: settle; status and outcome likewise.
	problemVoided = problem{
		BackendCut, 502, "attempt-voided", "Nothing was done",
		"The connection to the backend broke, it did not answer in time, or it could not say what it had done. Since then " +
			"the backend has made sure that the request was not executed and never will be. The key is free: a retry with it " +
			"is forwarded.", "", false, true,
	}
	problemUnsettled = problem{
		BackendCut, 502, "outcome-pending", "Outcome not known yet",
		"The connection to the backend broke, it did not answer in time, or it could not say what it had done, and it has not said " +
			"yet whether the request was executed. It is asked until it does. Retry with the same key: nothing is executed twice.",
		"1", false, true,
	}
)

//nolint:gochecknoglobals // constants, of a kind that Go has no word for
var linkName = []byte("Link")

// writeProblem answers with p as RFC 9457 JSON, or as plain text for a client
// that wants that and no JSON.
func writeProblem(ctx *fasthttp.RequestCtx, p *problem, in instance) {
	ctx.Response.Reset()
	p.write(&ctx.Response, wantsText(message.RequestValue(&ctx.Request.Header, "Accept")), in)
}

// instance is what is said of one occurrence of a problem.
type instance struct {
	key     *idem.Key // is echoed; nil: there is no valid one
	reason  string    // comes before the detail, if not empty
	differs idem.Part // of a mismatch
}

// write makes resp, which is empty, the answer.
func (p *problem) write(resp *fasthttp.Response, text bool, in instance) {
	resp.Header.SetStatusCode(p.status)
	resp.Header.SetContentType("application/problem+json")
	if text {
		resp.Header.SetContentType("text/plain; charset=utf-8")
	}
	var buf [160]byte
	link := append(append(append(buf[:0], '<'), ProblemBase...), p.name...)
	resp.Header.SetCanonical(linkName, append(link, `>; rel="describedby"`...)) // RFC 8288
	if p.retryAfter != "" {
		resp.Header.Set("Retry-After", p.retryAfter)
	}
	if p.status == fasthttp.StatusUnauthorized { // RFC 6750 section 3.1
		resp.Header.SetCanonical([]byte("WWW-Authenticate"), []byte(`Bearer error="invalid_token"`))
	}
	if p.closes {
		resp.SetConnectionClose()
	}
	if text {
		resp.SetBodyRaw(p.appendText(nil, in))
		return
	}
	resp.SetBodyRaw(p.appendJSON(nil, in))
}

// wantsText: text/plain is named in Accept, and nothing that JSON would fit.
func wantsText(accept []byte) bool {
	if !bytes.Contains(accept, []byte("text/plain")) {
		return false
	}
	for _, json := range []string{"json", "application/*", "*/*"} {
		if bytes.Contains(accept, []byte(json)) {
			return false
		}
	}
	return true
}

func (p *problem) appendText(b []byte, in instance) []byte {
	b = append(append(b, p.title...), '\n')
	if in.reason != "" {
		b = append(append(b, in.reason...), ". "...)
	}
	b = append(append(b, p.detail...), '\n')
	if in.key != nil {
		b = append(append(append(b, "Idempotency key: "...), in.key.Value()...), '\n')
	}
	return append(append(append(b, "See "+ProblemBase...), p.name...), '\n')
}

func (p *problem) appendJSON(b []byte, in instance) []byte {
	if b == nil {
		b = make([]byte, 0, 640)
	}
	b = append(b, `{"type":"`...)
	b = append(b, ProblemBase...)
	b = append(b, p.name...)
	b = append(b, `","title":"`...)
	b = append(b, p.title...)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(p.status), 10)
	b = append(b, `,"detail":"`...)
	if in.reason != "" {
		b = appendEscaped(b, in.reason)
		b = append(b, ". "...)
	}
	b = append(b, p.detail...)
	b = append(b, `","retryable":`...)
	b = strconv.AppendBool(b, p.retryable)
	if in.key != nil {
		b = append(b, `,"idempotency_key":"`...)
		b = appendEscaped(b, in.key.Value())
		b = append(b, '"')
	}
	if words := DiffersIn(in.differs); words != nil {
		b = append(b, `,"differs":["`...)
		b = append(b, strings.Join(words, `","`)...)
		b = append(b, `"]`...)
	}
	return append(b, "}\n"...)
}

// appendEscaped writes s into a JSON string. Keys and our own texts hold no
// control characters; whatever else comes by is replaced.
func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c > 0x7e:
			b = append(b, '?')
		default:
			b = append(b, c)
		}
	}
	return b
}
