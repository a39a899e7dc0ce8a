package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// Answers are how a route's own answers look, for clients that were made for another API.
// The zero value is RFC 9457 problems.
type Answers struct {
	// Shape is the form of errors: one of Shapes; empty for problems.
	Shape string
	// Mismatch and InProgress are the statuses of a key that was used for something else,
	// and of one that is in progress; 0 for 422 and 409.
	Mismatch, InProgress int
	// MarkName is a field of replays, beside Idempotent-Replayed; empty for none.
	// MarkValue is its value; {key} stands for the key.
	MarkName, MarkValue string
}

// ShapeProblem is the form of errors unless another is wished.
const ShapeProblem = "problem"

// Shapes are the forms that errors can have.
func Shapes() []string {
	names := []string{ShapeProblem}
	for name := range shapes() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// shape is how an API writes its errors.
type shape struct {
	// write is the body of an error: its code in that API, and what to say.
	write func(p *problem, text string) []byte
	// field goes with it; empty for none.
	field func(p *problem) (name, value string)
	// form is the body for a request that came as a form, and its type; nil: the same.
	form     func(p *problem, text string) []byte
	formType string
}

func shapes() map[string]shape {
	return map[string]shape{
		"stripe": {write: stripeError, field: stripeRetry},
		"square": {write: squareError},
		"paypal": {write: payPalError},
		"google": {write: googleError},
		"aws": {
			write: awsError, form: awsQueryError, formType: "text/xml;charset=UTF-8",
			field: func(p *problem) (string, string) { return "X-Amzn-ErrorType", awsCode(p) },
		},
		"graphql": {write: graphQLError},
		"oasis":   {field: func(*problem) (string, string) { return "Repeatability-Result", "rejected" }},
	}
}

func (p *problem) isMismatch() bool {
	return p.name == problemMismatchPayload.name || p.name == problemMismatchIdentity.name
}

func (p *problem) isInProgress() bool { return p.name == problemInProgress.name }

// answered is a problem with the status that the route has for it.
func (r *Rules) answered(p *problem) *problem {
	if r == nil {
		return p
	}
	status := 0
	switch {
	case p.isMismatch():
		status = r.Answers.Mismatch
	case p.isInProgress():
		status = r.Answers.InProgress
	}
	if status == 0 || status == p.status {
		return p
	}
	other := *p
	other.status = status
	return &other
}

// writeProblem answers with a problem, in the form that the route has for it.
func (q *request) writeProblem(p *problem, in instance) {
	writeProblem(q.ctx, p, in)
	if q.rules == nil || q.rules.shape == nil {
		return
	}
	s, resp, text := q.rules.shape, &q.ctx.Response, p.detail
	if in.reason != "" {
		text = in.reason + ". " + p.detail
	}
	switch contentType, _ := message.CutUnquoted(q.ctx.Request.Header.ContentType(), ';'); {
	case s.form != nil && message.EqualFold(bytes.TrimSpace(contentType), "application/x-www-form-urlencoded"):
		resp.Header.SetContentType(s.formType)
		resp.SetBodyRaw(s.form(p, text))
	case s.write != nil:
		resp.Header.SetContentType("application/json")
		resp.SetBodyRaw(s.write(p, text))
	}
	if s.field != nil {
		resp.Header.Set(s.field(p))
	}
}

// mark marks a replay as the route has it.
func (q *request) mark() {
	a := &q.rules.Answers
	if a.MarkName != "" {
		q.ctx.Response.Header.Set(a.MarkName, strings.ReplaceAll(a.MarkValue, "{key}", q.key.Value()))
	}
}

// object writes a JSON object of names and values, in turn.
func object(b []byte, members ...string) []byte {
	b = append(b, '{')
	for i, text := range members {
		switch {
		case i == 0:
		case i%2 == 0:
			b = append(b, ',')
		default:
			b = append(b, ':')
		}
		b = append(appendEscaped(append(b, '"'), text), '"')
	}
	return append(b, '}')
}

// statusName is a status in capitals: CONFLICT.
func statusName(status int) string {
	return strings.ReplaceAll(strings.ToUpper(fasthttp.StatusMessage(status)), " ", "_")
}

func stripeError(p *problem, text string) []byte {
	kind, code := "invalid_request_error", p.name
	switch {
	case p.isMismatch():
		kind, code = "idempotency_error", ""
	case p.isInProgress():
		kind, code = "idempotency_error", "idempotency_key_in_use"
	case p.status == fasthttp.StatusTooManyRequests:
		code = "rate_limit"
	case p.status >= fasthttp.StatusInternalServerError:
		kind = "api_error"
	}
	members := []string{"type", kind, "message", text}
	if code != "" {
		members = append(members, "code", code)
	}
	return append(object([]byte(`{"error":`), members...), "}\n"...)
}

// stripeRetry tells an SDK whether the same request may fare better.
func stripeRetry(p *problem) (name, value string) {
	if p.retryable {
		return "Stripe-Should-Retry", "true"
	}
	return "Stripe-Should-Retry", "false"
}

func squareError(p *problem, text string) []byte {
	category, code := "INVALID_REQUEST_ERROR", "BAD_REQUEST"
	switch {
	case p.isMismatch():
		code = "IDEMPOTENCY_KEY_REUSED"
	case p.status == fasthttp.StatusUnauthorized:
		category, code = "AUTHENTICATION_ERROR", "UNAUTHORIZED"
	case p.status == fasthttp.StatusConflict:
		code = "CONFLICT"
	case p.status == fasthttp.StatusTooManyRequests:
		category, code = "RATE_LIMIT_ERROR", "RATE_LIMITED"
	case p.status >= fasthttp.StatusInternalServerError:
		category, code = "API_ERROR", statusName(p.status)
	}
	return append(object([]byte(`{"errors":[`), "category", category, "code", code, "detail", text), "]}\n"...)
}

func payPalError(p *problem, text string) []byte {
	name, issue := statusName(p.status), strings.ReplaceAll(strings.ToUpper(p.name), "-", "_")
	if p.isMismatch() {
		name, issue = "UNPROCESSABLE_ENTITY", "PAYPAL_REQUEST_ID_PREVIOUSLY_USED"
	}
	b := object(nil, "name", name, "message", p.title)
	b = object(append(b[:len(b)-1], `,"details":[`...), "issue", issue, "description", text)
	return append(b, "]}\n"...)
}

// googleError is a google.rpc.Status, named as google/rpc/code.proto maps HTTP's.
func googleError(p *problem, text string) []byte {
	names := map[int]string{
		400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
		429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
		504: "DEADLINE_EXCEEDED",
	}
	name := names[p.status]
	if name == "" {
		name = "UNKNOWN"
	}
	b := object([]byte(`{"error":`), "message", text, "status", name)
	b = append(b[:len(b)-1], `,"code":`...)
	return append(strconv.AppendInt(b, int64(p.status), 10), "}}\n"...)
}

// awsCode is what SDKs know an error by: they try again after PriorRequestNotComplete.
func awsCode(p *problem) string {
	switch {
	case p.isMismatch():
		return "IdempotentParameterMismatchException"
	case p.isInProgress():
		return "PriorRequestNotComplete"
	case p.status == fasthttp.StatusTooManyRequests:
		return "ThrottlingException"
	case p.status == fasthttp.StatusServiceUnavailable:
		return "ServiceUnavailableException"
	case p.status >= fasthttp.StatusInternalServerError:
		return "InternalServerException"
	case p.status == fasthttp.StatusConflict:
		return "ConflictException"
	}
	return "ValidationException"
}

func awsError(p *problem, text string) []byte {
	return append(object(nil, "__type", awsCode(p), "message", text), '\n')
}

// awsQueryError is for requests of the query protocols, whose clients read XML.
func awsQueryError(p *problem, text string) []byte {
	code := strings.TrimSuffix(awsCode(p), "Exception")
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	return []byte("<Response><Errors><Error><Code>" + code + "</Code><Message>" + escape.Replace(text) +
		"</Message></Error></Errors></Response>\n")
}

func graphQLError(p *problem, text string) []byte {
	code := strings.ReplaceAll(strings.ToUpper(p.name), "-", "_")
	switch {
	case p.isMismatch():
		code = "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"
	case p.isInProgress():
		code = "IDEMPOTENCY_CONCURRENT_REQUEST"
	}
	b := object([]byte(`{"errors":[`), "message", text)
	b = object(append(b[:len(b)-1], `,"extensions":`...), "code", code)
	return append(b, "}]}\n"...)
}
